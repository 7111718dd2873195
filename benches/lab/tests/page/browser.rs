//! A headless browser that looks at pages, several at once, each in a frame of its own width.
//!
//! The outer page gathers what the checking script of each frame found, and the browser prints the
//! outer page when all of it has loaded. No name resolves, so the browser talks to nobody.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

const CHECK: &str = include_str!("check.js");
const DEADLINE: Duration = Duration::from_secs(150);
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// A page to be looked at.
pub struct Frame {
    pub name: &'static str,
    pub width: u32,
    pub html: String,
    /// Left as it is, so that only the browser's console speaks of it.
    pub is_untouched: bool,
}

/// What the checking script found.
#[derive(Debug, Deserialize)]
pub struct Found {
    pub problems: Vec<String>,
    pub charts: usize,
    pub curves: usize,
    pub bars: usize,
    pub tables: usize,
    pub dark: bool,
    pub paper: String,
}

/// Of all frames, by name.
#[derive(Debug)]
pub struct Look {
    pub found: HashMap<String, Found>,
    /// What the browser's console said.
    pub console: Vec<String>,
}

pub fn look(frames: &[Frame], is_dark: bool) -> Look {
    let folder = tempfile::tempdir().expect("a folder for the pages");
    for frame in frames {
        let html = if frame.is_untouched {
            frame.html.clone()
        } else {
            with_check(&frame.html)
        };
        fs::write(folder.path().join(format!("{}.html", frame.name)), html).expect("a page");
    }
    let outer = folder.path().join("outer.html");
    fs::write(&outer, outer_page(frames)).expect("the outer page");

    let (dom, log) = dump(folder.path(), &outer, is_dark);
    let console = log
        .lines()
        .filter(|line| line.contains("CONSOLE"))
        .map(str::to_owned)
        .collect();
    let digits = dom
        .split_once("data-found=\"")
        .and_then(|(_, rest)| rest.split_once('"'))
        .map(|(digits, _)| digits)
        .unwrap_or_else(|| panic!("the outer page heard nothing\n{dom}\n{log}"));
    let json = hex::decode(digits).expect("hexadecimal digits");
    let found = serde_json::from_slice(&json).expect("what the script found");
    Look { found, console }
}

/// The page's policy forbids scripts: the copy that is checked goes without it.
fn with_check(html: &str) -> String {
    let policy = html
        .find("<meta http-equiv=\"Content-Security-Policy\"")
        .expect("a policy");
    let end = policy + html[policy..].find('>').expect("its end") + 1;
    let without = [&html[..policy], &html[end..]].concat();
    without.replacen("</head>", &format!("<script>{CHECK}</script></head>"), 1)
}

fn outer_page(frames: &[Frame]) -> String {
    let boxes = frames.iter().map(|frame| {
        let Frame { name, width, .. } = frame;
        format!("<iframe src=\"{name}.html\" width=\"{width}\" height=\"900\"></iframe>\n")
    });
    let boxes: String = boxes.collect();
    format!(
        "<!DOCTYPE html><html><head><meta name=\"color-scheme\" content=\"light dark\"><script>
        const all = {{}};
        addEventListener('message', (message) => {{
          all[message.data.name.replace('.html', '')] = message.data.found;
          const bytes = new TextEncoder().encode(JSON.stringify(all));
          const digits = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0'));
          document.documentElement.dataset.found = digits.join('');
        }});
        </script></head><body>{boxes}</body></html>"
    )
}

fn dump(folder: &Path, page: &Path, is_dark: bool) -> (String, String) {
    let (dom, log) = (folder.join("dom"), folder.join("log"));
    let mut command = Command::new(browser());
    command.args([
        "--headless",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--enable-logging=stderr",
        "--virtual-time-budget=20000",
        "--window-size=1600,1000",
        "--dump-dom",
    ]);
    // 0 is dark, 1 is light.
    command.arg(format!(
        "--blink-settings=preferredColorScheme={}",
        u8::from(!is_dark)
    ));
    command.arg(format!(
        "--user-data-dir={}",
        folder.join("profile").display()
    ));
    if fs::metadata("/proc/self").expect("proc").uid() == 0 {
        command.arg("--no-sandbox");
    }
    command.arg(format!("file://{}", page.display()));
    command.stdin(Stdio::null());
    command.stdout(File::create(&dom).expect("a file"));
    command.stderr(File::create(&log).expect("a file"));
    let mut child = command.spawn().expect("the browser starts");
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        if begin.elapsed() > DEADLINE {
            child.kill().expect("it is ours");
            child.wait().expect("it is killed");
            panic!(
                "the browser was not done after {DEADLINE:?}: {}",
                read(&log)
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(
        status.success(),
        "the browser failed, {status}: {}",
        read(&log)
    );
    (read(&dom), read(&log))
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).expect("a file that we made")).into_owned()
}

/// The first one that answers; without one this fails, because a page that nobody looked at is not
/// tested.
fn browser() -> &'static str {
    let answers = |name: &&&str| {
        let mut version = Command::new(name);
        version
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        version.status().is_ok_and(|status| status.success())
    };
    NAMES.iter().find(answers).unwrap_or_else(|| {
        panic!(
            "no headless browser (looked for {}); hint: as root, run `apt-get install chromium`",
            NAMES.join(", ")
        )
    })
}
