//! Hosts with addresses of their own on one machine: network namespaces, joined by veth pairs at a
//! bridge, the kernel's own switch.
//!
//! Root may make namespaces; others may if user namespaces are theirs to make. Each namespace lives
//! as long as a process that waits for the end of its input: nothing of them is left when the test
//! ends, be it by SIGKILL.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

const NEEDS: &str = "this test makes network namespaces with veth pairs: it needs `ip` and `tc` \
                     (Debian's iproute2), `unshare` and `nsenter` (util-linux), and to be root or \
                     to be allowed user namespaces";

/// A process that holds a namespace.
#[derive(Debug)]
struct Holder {
    child: Child,
    /// In a user namespace of its own, where it is root.
    user: bool,
}

impl Holder {
    /// `unshare` is the command so far: it makes the namespaces.
    fn new(mut unshare: Command, user: bool) -> Self {
        // It says that it is there, which is inside. Its input ends with this process.
        unshare.args(["--", "sh", "-c", "echo here; exec cat > /dev/null"]);
        unshare.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = unshare.spawn().expect(NEEDS);
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "here\n", "{NEEDS}");
        Self { child, user }
    }

    fn pid(&self) -> String {
        self.child.id().to_string()
    }

    /// A program that is run inside, by the process that is started here.
    fn enter(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid(), "--net"]);
        if self.user {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.args(["--", program]);
        command
    }

    #[track_caller]
    fn run(&self, line: &str) -> Result<String, String> {
        let mut words = line.split(' ');
        let mut command = self.enter(words.next().unwrap());
        let output = command.args(words).output().expect(NEEDS);
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr))
        }
    }

    #[track_caller]
    fn must(&self, line: &str) -> String {
        self.run(line)
            .unwrap_or_else(|why| panic!("`{line}` fails: {why}; {NEEDS}"))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Some hosts at one switch. Host `n` is 10.77.0.(n + 1).
#[derive(Debug)]
pub struct Network {
    hosts: Vec<Holder>,
    switch: Holder,
}

impl Network {
    #[track_caller]
    pub fn new(hosts: usize) -> Self {
        let is_allowed = |options: &[&str]| {
            let mut unshare = Command::new("unshare");
            let status = unshare.args(options).args(["--net", "true"]);
            status
                .stderr(Stdio::null())
                .status()
                .expect(NEEDS)
                .success()
        };
        let as_root: &[&str] = &["--user", "--map-root-user"];
        let user = !is_allowed(&[]);
        assert!(!user || is_allowed(as_root), "{NEEDS}");
        let mut unshare = Command::new("unshare");
        unshare.args(if user { as_root } else { &[] }).arg("--net");
        let switch = Holder::new(unshare, user);
        switch.must("ip link add br0 type bridge");
        switch.must("ip link set br0 up");
        let hosts = (0..hosts).map(|number| {
            let mut unshare = switch.enter("unshare");
            unshare.arg("--net");
            let host = Holder::new(unshare, user);
            let port = format!("port{number}");
            let pid = host.pid();
            switch.must(&format!(
                "ip link add {port} type veth peer name eth0 netns {pid}"
            ));
            switch.must(&format!("ip link set {port} master br0 up"));
            host.must("ip link set lo up");
            host.must("ip link set eth0 up");
            host
        });
        let hosts = hosts.collect();
        let network = Self { hosts, switch };
        for host in 0..network.hosts.len() {
            network.address(host, "add");
        }
        network
    }

    /// A host's address.
    pub fn at(host: usize) -> String {
        format!("10.77.0.{}", host + 1)
    }

    /// A program on a host.
    pub fn command(&self, host: usize, program: &str) -> Command {
        self.hosts[host].enter(program)
    }

    /// Adds a host's address, or takes it away (`del`).
    pub fn address(&self, host: usize, how: &str) {
        let at = Self::at(host);
        self.hosts[host].must(&format!("ip address {how} {at}/24 dev eth0"));
    }

    /// Pulls a host's cable out of the switch (`down`), or puts it back (`up`). Nobody is told that
    /// a connection is no more.
    pub fn cable(&self, host: usize, how: &str) {
        self.switch.must(&format!("ip link set port{host} {how}"));
    }

    /// Makes the way to some hosts a bad one. Where the kernel has netem packets are late, lost,
    /// and come twice and in another order; elsewhere the way is narrow (tbf), so that they wait
    /// and are lost where they do not fit.
    pub fn worsen(&self, hosts: &[usize]) -> &'static str {
        const NETEM: &str = "netem delay 2ms 1ms loss 1% duplicate 1% reorder 5%";
        const NARROW: &str = "tbf rate 120mbit burst 16kb limit 16kb";
        let set = |how: &str| {
            hosts.iter().try_for_each(|host| {
                let line = format!("tc qdisc replace dev port{host} root {how}");
                self.switch.run(&line).map(drop)
            })
        };
        if set(NETEM).is_ok() {
            return NETEM;
        }
        set(NARROW).unwrap_or_else(|why| panic!("neither netem nor tbf is to be had: {why}"));
        NARROW
    }

    /// Makes it a good one again. Returns how many packets were lost on it.
    pub fn mend(&self, hosts: &[usize]) -> u64 {
        let lost = hosts.iter().map(|host| {
            let port = format!("port{host}");
            let said = self.switch.must(&format!("tc -s qdisc show dev {port}"));
            self.switch.must(&format!("tc qdisc del dev {port} root"));
            let (_, behind) = said.split_once("(dropped ").unwrap();
            let (number, _) = behind.split_once(',').unwrap();
            number.parse::<u64>().unwrap()
        });
        lost.sum()
    }
}
