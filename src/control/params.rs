//! Typed requests: each action declares its fields once, and reading them gives exact errors.
//!
//! The order is fixed by the protocol: names and types of everything first, then what is required; values are the action's business.

use super::errors::ApiError;
use super::tree::{Fields, Tree};

/// A type a parameter can have on the wire.
pub trait Parameter: Sized {
    /// Reads one value; `path` is its full dotted name, for the message.
    ///
    /// # Errors
    /// `InvalidParameter` for another type or structure.
    fn read(value: Tree, path: &str) -> Result<Self, ApiError>;
}

/// A request, or an object inside one.
pub trait Parameters: Sized {
    /// Reads the fields of an object whose own dotted name is `path`; empty at the top.
    ///
    /// # Errors
    /// `UnknownParameter`, `InvalidParameter`, `MissingParameter`.
    fn read_fields(fields: Fields, path: &str) -> Result<Self, ApiError>;
}

/// Fields that several requests have in common: on the wire they stand among each request's own.
pub trait Group: Default {
    /// Takes the field if it is one of these; gives `value` back if it is not.
    ///
    /// # Errors
    /// `InvalidParameter` for another type or structure.
    fn take(&mut self, name: &str, value: Tree, path: &str) -> Result<Option<Tree>, ApiError>;
}

/// Declares a request or an object: name of the field here, its type and its name on the wire.
///
/// Fields under `ignored` are known to client libraries and have no effect here. `with` adds groups, which `parameters! { group Name { ... } }` declares;
/// all fields of a group are optional, and it can be a request by itself.
macro_rules! parameters {
    ($(#[$doc:meta])* group $name:ident { $($field:ident: $type:ty = $wire:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Debug, Default)]
        pub struct $name {
            $(pub $field: Option<$type>,)+
        }

        impl $crate::control::params::Group for $name {
            fn take(
                &mut self,
                name: &str,
                value: $crate::control::tree::Tree,
                path: &str,
            ) -> Result<Option<$crate::control::tree::Tree>, $crate::control::errors::ApiError> {
                match (name, value) {
                    $(($wire, $crate::control::tree::Tree::Null) => {})+
                    $(($wire, value) => self.$field = Some($crate::control::params::Parameter::read(value, path)?),)+
                    (_, value) => return Ok(Some(value)),
                }
                Ok(None)
            }
        }

        impl $crate::control::params::Parameters for $name {
            fn read_fields(fields: $crate::control::tree::Fields, path: &str) -> Result<Self, $crate::control::errors::ApiError> {
                let mut read = Self::default();
                for (name, value) in fields {
                    let path = $crate::control::params::join(path, &name);
                    if $crate::control::params::Group::take(&mut read, &name, value, &path)?.is_some() {
                        return Err($crate::control::errors::ApiError::unknown(&path));
                    }
                }
                Ok(read)
            }
        }
    };
    ($(#[$doc:meta])* $name:ident {
        $(required { $($rfield:ident: $rtype:ty = $rwire:literal,)+ })?
        $(optional { $($ofield:ident: $otype:ty = $owire:literal,)+ })?
        $(with { $($gfield:ident: $gtype:ty,)+ })?
        $(ignored { $($iwire:literal),+ })?
    }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Debug)]
        pub struct $name {
            $($(pub $rfield: $rtype,)+)?
            $($(pub $ofield: Option<$otype>,)+)?
            $($(pub $gfield: $gtype,)+)?
        }

        impl $crate::control::params::Parameters for $name {
            fn read_fields(fields: $crate::control::tree::Fields, path: &str) -> Result<Self, $crate::control::errors::ApiError> {
                $($(let mut $rfield: Option<$rtype> = None;)+)?
                $($(let mut $ofield: Option<$otype> = None;)+)?
                $($(let mut $gfield = <$gtype>::default();)+)?
                for (name, value) in fields {
                    let path = $crate::control::params::join(path, &name);
                    match (name.as_str(), value) {
                        $($(($iwire, _) => {})+)?
                        $($(($rwire, $crate::control::tree::Tree::Null) => {})+)?
                        $($(($owire, $crate::control::tree::Tree::Null) => {})+)?
                        $($(($rwire, value) => $rfield = Some($crate::control::params::Parameter::read(value, &path)?),)+)?
                        $($(($owire, value) => $ofield = Some($crate::control::params::Parameter::read(value, &path)?),)+)?
                        (_, value) => {
                            let value = Some(value);
                            $($(let value = match value {
                                Some(value) => $crate::control::params::Group::take(&mut $gfield, &name, value, &path)?,
                                None => None,
                            };)+)?
                            if value.is_some() {
                                return Err($crate::control::errors::ApiError::unknown(&path));
                            }
                        }
                    }
                }
                Ok(Self {
                    $($($rfield: $rfield.ok_or_else(|| $crate::control::errors::ApiError::missing(&$crate::control::params::join(path, $rwire)))?,)+)?
                    $($($ofield,)+)?
                    $($($gfield,)+)?
                })
            }
        }
    };
}
pub(crate) use parameters;

/// The dotted name of a field.
pub fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

pub fn wrong_type(path: &str, wanted: &str) -> ApiError {
    ApiError::invalid(format!("The parameter {path} must be {wanted}."))
}

impl<T: Parameters> Parameter for T {
    fn read(value: Tree, path: &str) -> Result<Self, ApiError> {
        match value {
            Tree::Object(fields) => Self::read_fields(fields, path),
            _ => Err(wrong_type(path, "an object")),
        }
    }
}

/// A request without fields of its own.
#[derive(Clone, PartialEq, Debug)]
pub struct NoParameters;

impl Parameters for NoParameters {
    fn read_fields(fields: Fields, _path: &str) -> Result<Self, ApiError> {
        match fields.first() {
            Some((name, _)) => Err(ApiError::unknown(name)),
            None => Ok(Self),
        }
    }
}

impl Parameter for String {
    fn read(value: Tree, path: &str) -> Result<Self, ApiError> {
        match value {
            Tree::Text(text) | Tree::Flat(text) => Ok(text),
            _ => Err(wrong_type(path, "text")),
        }
    }
}

/// An integer as text: `-?[0-9]{1,19}`.
fn integer_text(text: &str) -> Option<i128> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_integer = (1..=19).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_integer { text.parse().ok() } else { None }
}

fn integer(value: Tree) -> Option<i128> {
    match value {
        Tree::Number(number) => {
            if let Some(signed) = number.as_i64() {
                return Some(signed.into());
            }
            if let Some(unsigned) = number.as_u64() {
                return Some(unsigned.into());
            }
            // `5.0` is an integer; beyond 2^53 a float does not say which one.
            let float = number.as_f64()?;
            (float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0).then_some(float as i128)
        }
        Tree::Text(text) | Tree::Flat(text) => integer_text(&text),
        _ => None,
    }
}

impl Parameter for i64 {
    fn read(value: Tree, path: &str) -> Result<Self, ApiError> {
        integer(value).and_then(|value| Self::try_from(value).ok()).ok_or_else(|| wrong_type(path, "an integer"))
    }
}

impl Parameter for u64 {
    fn read(value: Tree, path: &str) -> Result<Self, ApiError> {
        integer(value).and_then(|value| Self::try_from(value).ok()).ok_or_else(|| wrong_type(path, "an integer that is not negative"))
    }
}

impl Parameter for f64 {
    fn read(value: Tree, path: &str) -> Result<Self, ApiError> {
        let number = match &value {
            Tree::Number(number) => number.as_f64(),
            Tree::Text(text) | Tree::Flat(text) => text.parse().ok(),
            _ => None,
        };
        number.filter(|number: &f64| number.is_finite()).ok_or_else(|| wrong_type(path, "a number"))
    }
}

impl Parameter for bool {
    fn read(value: Tree, path: &str) -> Result<Self, ApiError> {
        match &value {
            Tree::Bool(value) => Ok(*value),
            Tree::Flat(text) if matches!(text.as_str(), "true" | "True" | "1") => Ok(true),
            Tree::Flat(text) if matches!(text.as_str(), "false" | "False" | "0") => Ok(false),
            _ => Err(wrong_type(path, "true or false")),
        }
    }
}

impl<T: Parameter> Parameter for Vec<T> {
    fn read(value: Tree, path: &str) -> Result<Self, ApiError> {
        match value {
            Tree::List(items) => items.into_iter().enumerate().map(|(index, item)| T::read(item, &format!("{path}.{index}"))).collect(),
            _ => Err(wrong_type(path, "a list")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::{decode_form, read_json, unflatten};
    use super::*;

    parameters! {
        /// Every type there is.
        Sample {
            required { name: String = "Name", }
            optional {
                count: i64 = "Count",
                size: u64 = "Size",
                on: bool = "On",
                tags: Vec<String> = "Tags",
                inner: Inner = "Inner",
                inners: Vec<Inner> = "Inners",
            }
            with { page: Page, }
            ignored { "Old" }
        }
    }
    parameters! {
        group Page {
            offset: u64 = "Offset",
            limit: u64 = "Limit",
        }
    }
    parameters! {
        Inner { required { id: i64 = "Id", } }
    }

    fn json(text: &str) -> Result<Sample, ApiError> {
        Sample::read_fields(read_json(text.as_bytes()).unwrap(), "")
    }

    fn form(text: &str) -> Result<Sample, ApiError> {
        Sample::read_fields(unflatten(decode_form(text.as_bytes()).unwrap()).unwrap(), "")
    }

    #[test]
    fn both_forms_read_the_same() {
        let expected = Sample {
            name: "n".to_owned(),
            count: Some(-3),
            size: Some(7),
            on: Some(true),
            tags: Some(vec!["a".to_owned(), "1".to_owned()]),
            inner: Some(Inner { id: 1 }),
            inners: Some(vec![Inner { id: 2 }, Inner { id: 3 }]),
            page: Page { offset: None, limit: Some(4) },
        };
        let body = r#"{"Name":"n","Count":"-3","Size":7,"On":true,"Tags":["a","1"],"Inner":{"Id":1},"Inners":[{"Id":2},{"Id":3.0}],"Limit":4,"Offset":null,"Old":[{"x":1}]}"#;
        assert_eq!(json(body).unwrap(), expected);
        let query = "Name=n&Count=-3&Size=7&On=True&Tags.0=a&Tags.1=1&Inner.Id=1&Inners.0.Id=2&Inners.1.Id=3&Limit=4&Old=x";
        assert_eq!(form(query).unwrap(), expected);
        assert_eq!(json(r#"{"Name":"n","Count":null,"Inner":null}"#).unwrap().count, None);
    }

    #[test]
    fn refusals_name_the_field() {
        let cases = [
            (r#"{}"#, "MissingParameter", "Name"),
            (r#"{"Name":null}"#, "MissingParameter", "Name"),
            (r#"{"Name":5}"#, "InvalidParameter", "Name"),
            (r#"{"Name":"n","Count":1.5}"#, "InvalidParameter", "Count"),
            (r#"{"Name":"n","Count":9223372036854775808}"#, "InvalidParameter", "Count"),
            (r#"{"Name":"n","Count":1e30}"#, "InvalidParameter", "Count"),
            (r#"{"Name":"n","Count":"1e3"}"#, "InvalidParameter", "Count"),
            (r#"{"Name":"n","Count":""}"#, "InvalidParameter", "Count"),
            (r#"{"Name":"n","Count":true}"#, "InvalidParameter", "Count"),
            (r#"{"Name":"n","Count":[1]}"#, "InvalidParameter", "Count"),
            (r#"{"Name":"n","Size":-1}"#, "InvalidParameter", "Size"),
            (r#"{"Name":"n","On":1}"#, "InvalidParameter", "On"),
            (r#"{"Name":"n","On":"true"}"#, "InvalidParameter", "On"),
            (r#"{"Name":"n","Tags":"a"}"#, "InvalidParameter", "Tags"),
            (r#"{"Name":"n","Tags":[null]}"#, "InvalidParameter", "Tags.0"),
            (r#"{"Name":"n","Inner":1}"#, "InvalidParameter", "Inner"),
            (r#"{"Name":"n","Inner":{}}"#, "MissingParameter", "Inner.Id"),
            (r#"{"Name":"n","Inners":[{"Id":1},{"Id":"x"}]}"#, "InvalidParameter", "Inners.1.Id"),
            (r#"{"Name":"n","Inner":{"Id":1,"Nope":1}}"#, "UnknownParameter", "Inner.Nope"),
            (r#"{"Name":"n","Limit":-1}"#, "InvalidParameter", "Limit"),
            // Names and types come before what is required.
            (r#"{"Nope":1}"#, "UnknownParameter", "Nope"),
            (r#"{"Count":"x"}"#, "InvalidParameter", "Count"),
        ];
        for (body, code, field) in cases {
            let error = json(body).unwrap_err();
            assert_eq!(error.code, code, "{body}");
            assert!(error.message.contains(&format!("parameter {field} ")), "{body}: {}", error.message);
        }
        for (query, code) in [
            ("Name=n&Count=", "InvalidParameter"),
            ("Name=n&Count=+5", "InvalidParameter"),
            ("Name=n&Count=12345678901234567890", "InvalidParameter"),
            ("Name=n&Size=-0", "ok"),
            ("Name=n&On=yes", "InvalidParameter"),
            ("Name=n&Tags=a", "InvalidParameter"),
            ("Name.0=n", "InvalidParameter"),
            ("Count=1", "MissingParameter"),
            ("name=n", "UnknownParameter"),
        ] {
            assert_eq!(form(query).map_or_else(|error| error.code, |_| "ok"), code, "{query}");
        }
        assert_eq!(Page::read_fields(read_json(br#"{"Limit":1,"Name":"n"}"#).unwrap(), "").unwrap_err().code, "UnknownParameter");
        assert_eq!(NoParameters::read_fields(vec![("X".to_owned(), Tree::Null)], "").unwrap_err().code, "UnknownParameter");
    }
}
