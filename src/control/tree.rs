//! Parameters as a tree, whatever form they came in: a JSON object, or names flattened by dots and indexes.
//!
//! Nothing here knows an action: types are read later (`params`), where the wanted one is known.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use super::errors::ApiError;

/// Fields and list elements of one request. The largest request of the official clients has below a hundred.
pub const FIELDS_MAX: usize = 1_000;
/// Nesting of objects and lists.
pub const DEPTH_MAX: usize = 16;
/// List indexes in flattened names stay below this.
pub const INDEX_MAX: usize = 1_000;

#[derive(Clone, PartialEq, Debug)]
pub enum Tree {
    /// JSON `null`: the same as absent.
    Null,
    Bool(bool),
    Number(Number),
    /// Text of a JSON body.
    Text(String),
    /// Text of a flattened form, where everything is text.
    Flat(String),
    List(Vec<Tree>),
    Object(Fields),
}

/// Fields of an object in the order they came (JSON) or by name (flattened); names are unique.
pub type Fields = Vec<(String, Tree)>;

/// Decodes `name=value&name=value`: `+` is a space, `%XX` a byte of UTF-8. A name without `=` has the empty value.
///
/// # Errors
/// `InvalidParameter` for bytes that are no UTF-8 or more than [`FIELDS_MAX`] fields.
pub fn decode_form(text: &[u8]) -> Result<Vec<(String, String)>, ApiError> {
    let mut pairs = Vec::new();
    for part in text.split(|byte| *byte == b'&').filter(|part| !part.is_empty()) {
        if pairs.len() == FIELDS_MAX {
            return Err(too_many());
        }
        let at = part.iter().position(|byte| *byte == b'=');
        let (name, value) = at.map_or((part, &[][..]), |at| (&part[..at], &part[at + 1..]));
        pairs.push((decode_part(name)?, decode_part(value)?));
    }
    Ok(pairs)
}

fn decode_part(part: &[u8]) -> Result<String, ApiError> {
    let spaced: Cow<'_, [u8]> =
        if part.contains(&b'+') { part.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect::<Vec<u8>>().into() } else { part.into() };
    let bytes: Vec<u8> = percent_encoding::percent_decode(&spaced).collect();
    String::from_utf8(bytes).map_err(|_| ApiError::invalid("A parameter is not UTF-8."))
}

/// Turns flattened names into a tree: `A.B=1&L.0=x` is `{A: {B: 1}, L: [x]}`, in any order.
///
/// # Errors
/// `InvalidParameter` for a name given twice, a name that is a value and an object at once, a gap in the indexes, or a bound.
pub fn unflatten(pairs: Vec<(String, String)>) -> Result<Fields, ApiError> {
    if pairs.len() > FIELDS_MAX {
        return Err(too_many());
    }
    let mut root = BTreeMap::new();
    for (name, value) in pairs {
        insert(&mut root, &name, value)?;
    }
    root.into_iter().map(|(name, node)| node.into_tree(&name).map(|tree| (name, tree))).collect()
}

enum Node {
    Leaf(String),
    Branch(BTreeMap<String, Node>),
}

fn insert(root: &mut BTreeMap<String, Node>, name: &str, value: String) -> Result<(), ApiError> {
    let clash = || ApiError::invalid(format!("The parameter {name} is given twice or in two structures."));
    let mut branch = root;
    let mut parts = name.split('.');
    let mut last = parts.next().unwrap_or_default();
    for (depth, part) in parts.enumerate() {
        if depth + 2 > DEPTH_MAX {
            return Err(ApiError::invalid(format!("A parameter name is nested deeper than {DEPTH_MAX}.")));
        }
        let node = branch.entry(last.to_owned()).or_insert_with(|| Node::Branch(BTreeMap::new()));
        branch = match node {
            Node::Branch(inner) => inner,
            Node::Leaf(_) => return Err(clash()),
        };
        last = part;
    }
    if name.split('.').any(str::is_empty) {
        return Err(ApiError::invalid(format!("The parameter name \"{name}\" has an empty part.")));
    }
    match branch.insert(last.to_owned(), Node::Leaf(value)) {
        None => Ok(()),
        Some(_) => Err(clash()),
    }
}

impl Node {
    fn into_tree(self, path: &str) -> Result<Tree, ApiError> {
        let branch = match self {
            Node::Leaf(text) => return Ok(Tree::Flat(text)),
            Node::Branch(branch) => branch,
        };
        let is_list = branch.keys().any(|key| key.bytes().all(|byte| byte.is_ascii_digit()));
        if !is_list {
            let field = |(name, node): (String, Node)| node.into_tree(&format!("{path}.{name}")).map(|tree| (name, tree));
            return branch.into_iter().map(field).collect::<Result<_, _>>().map(Tree::Object);
        }
        let mut items = BTreeMap::new();
        for (key, node) in branch {
            let index = key.parse::<usize>().ok().filter(|index| *index < INDEX_MAX && index.to_string() == key);
            let index = index.ok_or_else(|| ApiError::invalid(format!("{path}.{key}: list indexes are 0 to {}.", INDEX_MAX - 1)))?;
            items.insert(index, node.into_tree(&format!("{path}.{key}"))?);
        }
        // Indexes are unique, so the greatest tells whether there is a gap.
        match items.last_key_value() {
            Some((last, _)) if last + 1 == items.len() => Ok(Tree::List(items.into_values().collect())),
            _ => Err(ApiError::invalid(format!("The list {path} has a gap in its indexes."))),
        }
    }
}

/// Reads a JSON object. An empty body is an empty object.
///
/// # Errors
/// `InvalidParameter` for anything but one JSON object, a name given twice, or a bound.
pub fn read_json(body: &[u8]) -> Result<Fields, ApiError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Fields::new());
    }
    let malformed = |error: serde_json::Error| ApiError::invalid(format!("The body is no usable JSON object: {error}."));
    let mut reader = serde_json::Deserializer::from_slice(body);
    let mut fields = 0;
    let tree = TreeSeed { depth: 0, fields: &mut fields }.deserialize(&mut reader).map_err(malformed)?;
    reader.end().map_err(malformed)?;
    match tree {
        Tree::Object(fields) => Ok(fields),
        _ => Err(ApiError::invalid("The body must be a JSON object.")),
    }
}

fn too_many() -> ApiError {
    ApiError::invalid(format!("The request has more than {FIELDS_MAX} fields."))
}

/// Builds the tree while parsing, so that bounds hold before memory is spent.
struct TreeSeed<'a> {
    depth: usize,
    /// Fields and elements read so far, in the whole body.
    fields: &'a mut usize,
}

impl TreeSeed<'_> {
    fn inner<E: Error>(&mut self) -> Result<TreeSeed<'_>, E> {
        *self.fields += 1;
        if *self.fields > FIELDS_MAX {
            return Err(E::custom(format_args!("more than {FIELDS_MAX} fields")));
        }
        if self.depth == DEPTH_MAX {
            return Err(E::custom(format_args!("nested deeper than {DEPTH_MAX}")));
        }
        Ok(TreeSeed { depth: self.depth + 1, fields: self.fields })
    }
}

impl<'de> DeserializeSeed<'de> for TreeSeed<'_> {
    type Value = Tree;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TreeSeed<'_> {
    type Value = Tree;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Tree, E> {
        Number::from_f64(value).map(Tree::Number).ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut access: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(self.inner()?)? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<Tree, A::Error> {
        let mut fields = Fields::new();
        while let Some(name) = access.next_key::<String>()? {
            if fields.iter().any(|(known, _)| *known == name) {
                return Err(A::Error::custom(format_args!("the name \"{name}\" is given twice")));
            }
            let value = access.next_value_seed(self.inner()?)?;
            fields.push((name, value));
        }
        Ok(Tree::Object(fields))
    }
}

/// Any bytes as a form and as JSON: bounded answers, and what a form says does not depend on the order of its fields.
pub fn fuzz_tree(data: &[u8]) {
    if let Ok(fields) = read_json(data) {
        assert!(fields.len() <= FIELDS_MAX);
    }
    let Ok(mut pairs) = decode_form(data) else { return };
    let forward = unflatten(pairs.clone());
    pairs.reverse();
    let backward = unflatten(pairs);
    assert_eq!(forward.is_ok(), backward.is_ok());
    if let (Ok(forward), Ok(backward)) = (forward, backward) {
        assert_eq!(forward, backward);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn form(text: &str) -> Result<Fields, ApiError> {
        decode_form(text.as_bytes()).and_then(unflatten)
    }

    fn flat(text: &str) -> Tree {
        Tree::Flat(text.to_owned())
    }

    fn object(fields: &[(&str, Tree)]) -> Tree {
        Tree::Object(fields.iter().map(|(name, tree)| ((*name).to_owned(), tree.clone())).collect())
    }

    #[test]
    fn flattened_names_become_objects_and_lists() {
        let cases: &[(&str, Tree)] = &[
            ("", object(&[])),
            ("A=", object(&[("A", flat(""))])),
            ("A", object(&[("A", flat(""))])),
            ("A=b+c%2Bd%26&&", object(&[("A", flat("b c+d&"))])),
            ("A=%E6%96%B0", object(&[("A", flat("新"))])),
            ("P.Enable=1&P.RecordInterval=2", object(&[("P", object(&[("Enable", flat("1")), ("RecordInterval", flat("2"))]))])),
            ("N.1=b&N.0=a", object(&[("N", Tree::List(vec![flat("a"), flat("b")]))])),
            (
                "M.T.0.Definition=875&M.T.1.Definition=876",
                object(&[("M", object(&[("T", Tree::List(vec![object(&[("Definition", flat("875"))]), object(&[("Definition", flat("876"))])]))]))]),
            ),
            // Ten and more: by number, not by text.
            (
                "L.10=k&L.9=j&L.8=i&L.7=h&L.6=g&L.5=f&L.4=e&L.3=d&L.2=c&L.1=b&L.0=a",
                object(&[("L", Tree::List("abcdefghijk".chars().map(|letter| flat(&letter.to_string())).collect()))]),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(Tree::Object(form(text).unwrap()), *expected, "{text}");
        }
    }

    #[test]
    fn bad_forms_are_refused() {
        let many = (0..=FIELDS_MAX).map(|index| format!("a{index}=1&")).collect::<String>();
        let deep = format!("{}=1", vec!["a"; DEPTH_MAX + 1].join("."));
        let cases = [
            "A=1&A=2",
            "A=1&A.B=2",
            "A.B=2&A=1",
            "L.0=a&L.2=c",
            "L.1=a",
            "L.00=a",
            "L.0=a&L.x=b",
            "L.1000=a",
            "L.99999999999999999999999=a",
            "A..B=1",
            ".A=1",
            "A.=1",
            "=1",
            "A=%FF",
            "%FF=1",
            &many,
            &deep,
        ];
        for text in cases {
            assert_eq!(form(text).unwrap_err().code, "InvalidParameter", "{text:.60}");
        }
        assert!(form(&format!("{}=1", vec!["a"; DEPTH_MAX].join("."))).is_ok());
    }

    #[test]
    fn json_keeps_types() {
        let tree =
            Tree::Object(read_json(br#"{"T":"x","N":-5,"U":18446744073709551615,"F":1.5,"B":true,"Z":null,"L":[1,"2"],"O":{"A":[]}}"#).unwrap());
        let number = |value: i64| Tree::Number(value.into());
        let expected = object(&[
            ("T", Tree::Text("x".to_owned())),
            ("N", number(-5)),
            ("U", Tree::Number(u64::MAX.into())),
            ("F", Tree::Number(Number::from_f64(1.5).unwrap())),
            ("B", Tree::Bool(true)),
            ("Z", Tree::Null),
            ("L", Tree::List(vec![number(1), Tree::Text("2".to_owned())])),
            ("O", object(&[("A", Tree::List(vec![]))])),
        ]);
        assert_eq!(tree, expected);
        assert_eq!(read_json(b"").unwrap(), Fields::new());
        assert_eq!(read_json(b" \r\n").unwrap(), Fields::new());
    }

    #[test]
    fn bad_json_is_refused() {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        let deep_object = format!("{{\"a\":{}1{}}}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX));
        let many = format!("{{\"L\":[{}0]}}", "0,".repeat(FIELDS_MAX));
        let cases = [
            "[]",
            "1",
            "\"x\"",
            "null",
            "{",
            "{}x",
            "{\"A\":1,\"A\":2}",
            "{\"A\":{\"B\":1,\"B\":1}}",
            "{\"A\":NaN}",
            "{\"A\":1e999}",
            "{\"A\":\"\u{0}\"}",
            "{\"A\":\"\\ud800\"}",
            "{'A':1}",
            &deep,
            &deep_object,
            &many,
        ];
        for text in cases {
            assert_eq!(read_json(text.as_bytes()).unwrap_err().code, "InvalidParameter", "{text:.60}");
        }
        assert_eq!(read_json(b"{\"A\":\"\xff\"}").unwrap_err().code, "InvalidParameter");
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            fuzz_tree(&data);
        }

        #[test]
        fn any_form_is_answered(text in "([AB0-2.%=&+]|%[0-9A-F]{2}){0,40}") {
            fuzz_tree(text.as_bytes());
        }
    }
}
