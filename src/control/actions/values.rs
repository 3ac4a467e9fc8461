//! Rules that several actions share: names, texts and domains.

use crate::control::errors::{ApiError, refuse};
use crate::domain::admission::is_domain_name;
use crate::limits::{APP_BYTES_MAX, DOMAIN_BYTES_MAX, STREAM_BYTES_MAX};

/// Template names, catalog name patterns and names of task flows, bytes.
pub const NAME_BYTES_MAX: usize = 255;
pub const DESCRIPTION_BYTES_MAX: usize = 1_024;
/// Addresses that are called, bytes.
pub const URL_BYTES_MAX: usize = 2_048;

/// What was given, short enough for a message.
pub fn shorten(text: &str) -> String {
    const CHARS_MAX: usize = 64;
    if text.chars().count() <= CHARS_MAX { text.to_owned() } else { text.chars().take(CHARS_MAX).chain(['…']).collect() }
}

/// `low..=high`, else `InvalidParameterValue` with the bound.
pub fn in_range<T: PartialOrd + std::fmt::Display>(value: T, low: T, high: T, name: &str) -> Result<T, ApiError> {
    if value >= low && value <= high {
        return Ok(value);
    }
    Err(ApiError::value(format!("{name} is {value}; it must be {low} to {high}.")))
}

/// 1 to 255 bytes of letters and digits of any script, `_` and `-`.
pub fn template_name(name: String) -> Result<String, ApiError> {
    let is_good = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '-'));
    if is_good {
        return Ok(name);
    }
    Err(ApiError::value(format!("TemplateName must be 1 to {NAME_BYTES_MAX} bytes of letters, digits, _ and -.")))
}

/// At most 1,024 bytes, no control characters but newline and tab.
pub fn description(text: String) -> Result<String, ApiError> {
    let is_good = text.len() <= DESCRIPTION_BYTES_MAX && !text.chars().any(|letter| letter.is_control() && !matches!(letter, '\n' | '\t'));
    if is_good {
        return Ok(text);
    }
    Err(ApiError::value(format!("Description must be at most {DESCRIPTION_BYTES_MAX} bytes without control characters.")))
}

/// Text of so many characters without control characters but newline and tab; else `code`.
pub fn text_of(text: String, chars_min: usize, chars_max: usize, name: &str, code: &'static str) -> Result<String, ApiError> {
    let is_good =
        (chars_min..=chars_max).contains(&text.chars().count()) && !text.chars().any(|letter| letter.is_control() && !matches!(letter, '\n' | '\t'));
    if is_good {
        return Ok(text);
    }
    Err(refuse(code, format!("{name} must be {chars_min} to {chars_max} characters without control characters.")))
}

/// A push domain, in lower case.
///
/// # Errors
/// `InvalidParameter.DomainTooLong`, `InvalidParameter.DomainFormatError`.
pub fn domain(name: &str) -> Result<String, ApiError> {
    if name.len() > DOMAIN_BYTES_MAX {
        return Err(refuse("InvalidParameter.DomainTooLong", format!("DomainName must be at most {DOMAIN_BYTES_MAX} bytes.")));
    }
    let name = name.to_ascii_lowercase();
    if is_domain_name(&name) {
        return Ok(name);
    }
    let message = "DomainName must be labels of letters, digits and -, joined by dots, or localhost.";
    Err(refuse("InvalidParameter.DomainFormatError", message))
}

/// An address that can be called, or empty: a scheme, a host, perhaps a port, no user information; else `code`.
pub fn callback_url(url: String, name: &str, code: &'static str) -> Result<String, ApiError> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let is_host = |rest: &str| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        // An IPv6 address stands in brackets and has colons of its own.
        let after_brackets = authority.rfind(']').map_or(0, |end| end + 1);
        let port = authority[after_brackets..].split_once(':');
        let host = port.map_or(authority, |(_, port)| &authority[..authority.len() - port.len() - 1]);
        let is_port = port.is_none_or(|(_, port)| port.parse::<u16>().is_ok_and(|port| port != 0));
        !host.is_empty() && is_port && !authority.contains('@')
    };
    let is_text = url.len() <= URL_BYTES_MAX && url.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\'));
    if url.is_empty() || (is_text && rest.is_some_and(is_host)) {
        return Ok(url);
    }
    let message = format!("{name} must be an http:// or https:// address of at most {URL_BYTES_MAX} ASCII characters without user information.");
    Err(refuse(code, message))
}

fn is_path_char(letter: char) -> bool {
    !letter.is_control() && !matches!(letter, ' ' | '?' | '&' | '#')
}

/// Empty, or 1 to 255 bytes without control characters, space, `?`, `&`, `#`; `/` only inside. `code` is the family's for a bad value.
pub fn app(name: String, code: &'static str) -> Result<String, ApiError> {
    if name.len() <= APP_BYTES_MAX && name.chars().all(is_path_char) && !name.starts_with('/') && !name.ends_with('/') {
        return Ok(name);
    }
    Err(refuse(code, format!("AppName must be at most {APP_BYTES_MAX} bytes without control characters, space, ?, & and #, with / only inside.")))
}

/// As [`app`], and without `/`.
pub fn stream(name: String, code: &'static str) -> Result<String, ApiError> {
    if name.len() <= STREAM_BYTES_MAX && name.chars().all(|letter| is_path_char(letter) && letter != '/') {
        return Ok(name);
    }
    Err(refuse(code, format!("StreamName must be at most {STREAM_BYTES_MAX} bytes without control characters, space, ?, &, # and /.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "b".repeat(61));
        assert_eq!(longest.len(), DOMAIN_BYTES_MAX);
        for (name, expected) in [
            ("push.example.com", Ok("push.example.com")),
            ("PUSH.Example.com", Ok("push.example.com")),
            ("localhost", Ok("localhost")),
            ("LOCALHOST", Ok("localhost")),
            ("127.0.0.1", Ok("127.0.0.1")),
            (longest.as_str(), Ok(longest.as_str())),
            ("", Err("InvalidParameter.DomainFormatError")),
            ("example", Err("InvalidParameter.DomainFormatError")),
            ("a..b", Err("InvalidParameter.DomainFormatError")),
            (".a.b", Err("InvalidParameter.DomainFormatError")),
            ("a.b.", Err("InvalidParameter.DomainFormatError")),
            ("a_b.c", Err("InvalidParameter.DomainFormatError")),
            ("a b.c", Err("InvalidParameter.DomainFormatError")),
            ("例.com", Err("InvalidParameter.DomainFormatError")),
            (format!("{longest}x").as_str(), Err("InvalidParameter.DomainTooLong")),
        ] {
            assert_eq!(domain(name).as_deref().map_err(|error| error.code), expected, "{name}");
        }
    }

    #[test]
    fn addresses_to_be_called() {
        for (url, good) in [
            ("", true),
            ("http://127.0.0.1:9000/events?x=1", true),
            ("https://example.com", true),
            ("http://[::1]:9000/", true),
            ("http://[::1]", true),
            ("ftp://example.com", false),
            ("http://", false),
            ("http:///path", false),
            ("http://:80/", false),
            ("http://a.example:0/", false),
            ("http://a.example:65536/", false),
            ("http://a.example:x/", false),
            ("http://user:pass@example.com/", false),
            ("http://example.com/a b", false),
            ("http://example.com/ä", false),
            ("example.com", false),
        ] {
            assert_eq!(callback_url(url.to_owned(), "X", "C").is_ok(), good, "{url}");
        }
        assert_eq!(callback_url(format!("http://{}", "a".repeat(URL_BYTES_MAX)), "X", "C").unwrap_err().code, "C");
    }

    #[test]
    fn names() {
        let long = "x".repeat(256);
        for (name, good) in
            [("news-mp4_1", true), ("新闻", true), ("", false), ("a b", false), ("a.b", false), ("a/b", false), (&long, false), (&long[1..], true)]
        {
            assert_eq!(template_name(name.to_owned()).is_ok(), good, "{name}");
        }
        for (text, good) in [("", true), ("Morning\nnews\t1", true), ("a\r", false), ("a\0", false)] {
            assert_eq!(description(text.to_owned()).is_ok(), good, "{text:?}");
        }
        assert!(description("x".repeat(1024)).is_ok() && description("x".repeat(1025)).is_err());
        for (name, app_good, stream_good) in [
            ("", true, true),
            ("live", true, true),
            ("live/radio", true, false),
            ("/live", false, false),
            ("live/", false, false),
            ("カメラ-1", true, true),
            ("a b", false, false),
            ("a?b", false, false),
            ("a&b", false, false),
            ("a#b", false, false),
            ("a\u{7f}", false, false),
            (&long, false, false),
            (&long[1..], true, true),
        ] {
            assert_eq!(app(name.to_owned(), "X").is_ok(), app_good, "{name}");
            assert_eq!(stream(name.to_owned(), "X").is_ok(), stream_good, "{name}");
        }
        assert_eq!(shorten(&long).chars().count(), 65);
        assert_eq!(in_range(5, 1, 4, "Limit").unwrap_err().message, "Limit is 5; it must be 1 to 4.");
    }
}
