//! One colour for each contender, the same in every chart of a page.

use crate::result::Report;

/// Hues that the page's style has.
const HUES: usize = 8;

/// Contenders in the order of their first appearance.
pub(super) struct Colours<'r> {
    contenders: Vec<&'r str>,
}

impl<'r> Colours<'r> {
    pub(super) fn of(report: &'r Report) -> Self {
        let mut contenders: Vec<&str> = Vec::new();
        for row in report.scenarios.iter().flat_map(|scenario| &scenario.rows) {
            if !contenders.contains(&row.contender.as_str()) {
                contenders.push(&row.contender);
            }
        }
        Self { contenders }
    }

    /// The class of its colour, and of its dashes once the colours are used up.
    pub(super) fn hue(&self, contender: &str) -> String {
        let index = self.contenders.iter().position(|other| *other == contender);
        let index = index.unwrap_or(0);
        format!("hue{} dash{}", index % HUES, index / HUES % 3)
    }
}
