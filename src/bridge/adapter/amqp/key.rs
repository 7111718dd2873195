//! Where a message goes: by a routing key that all have, or one that has the record's tag in it.

use lapin::types::ShortString;

use crate::bridge::url::TAG_IN_KEY;

/// A routing key, before and behind the tag if it has one.
#[derive(Debug)]
pub(super) struct Key {
    before: ShortString,
    behind: Option<String>,
}

impl Key {
    pub(super) fn new(key: &str) -> Self {
        let (before, behind) = key.split_once(TAG_IN_KEY).map_or((key, None), |parts| {
            let (before, behind) = parts;
            (before, Some(behind.to_owned()))
        });
        Self {
            before: before.into(),
            behind,
        }
    }

    /// That of a record.
    pub(super) fn of(&self, tag: u32) -> ShortString {
        match &self.behind {
            None => self.before.clone(),
            Some(behind) => format!("{}{tag}{behind}", self.before).into(),
        }
    }

    /// That by which a queue is bound for records of any tag.
    pub(super) fn of_any(key: &str) -> ShortString {
        key.replace(TAG_IN_KEY, "*").into()
    }
}

#[cfg(test)]
mod tests {
    use super::Key;

    #[test]
    fn a_tag_stands_where_the_key_says() {
        let of = |key: &str, tag| Key::new(key).of(tag).to_string();
        assert_eq!(of("orders", 7), "orders");
        assert_eq!(of("orders.{tag}.new", 7), "orders.7.new");
        assert_eq!(of("{tag}", u32::MAX), "4294967295");
        assert_eq!(Key::of_any("orders.{tag}.new").as_str(), "orders.*.new");
    }
}
