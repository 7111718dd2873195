//! Numbers as people write them on a command line.

use bytesize::ByteSize;

/// Bytes: `4096`, `64KiB`, `1MiB`, `1MB`.
pub fn parse(text: &str) -> Result<u64, String> {
    let hint = "expected bytes, such as 4096, 64KiB or 1MiB";
    let size: ByteSize = text.parse().map_err(|_| hint.to_owned())?;
    let fraction_of_bytes = text.contains('.') && size.as_u64() == 0;
    if fraction_of_bytes {
        Err(hint.to_owned())
    } else {
        Ok(size.as_u64())
    }
}

/// Bytes for people: `1.0 MiB`.
pub fn show(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// Permissions in octal: `0600`, `640`.
pub fn parse_mode(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    match u32::from_str_radix(digits, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("expected permissions in octal, such as 0600 or 0660".to_owned()),
    }
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary_or_decimal_as_they_say() {
        assert_eq!(parse("4096"), Ok(4096));
        assert_eq!(parse("64KiB"), Ok(65_536));
        assert_eq!(parse("1 MiB"), Ok(1 << 20));
        assert_eq!(parse("1MB"), Ok(1_000_000));
        assert_eq!(parse("8GiB"), Ok(8 << 30));
        for wrong in ["", "many", "-1", "1XB", "0.2"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(parse_mode("0600"), Ok(0o600));
        assert_eq!(parse_mode("660"), Ok(0o660));
        assert!(parse_mode("0900").is_err());
        assert!(parse_mode("7777").is_err());
    }

    #[test]
    fn digits_come_in_threes() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
