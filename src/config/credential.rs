//! Who may call the API. Nothing in here ever prints a key.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::value::{Reader, Role, Value, read_text, show_text};

/// A text that must not be printed.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }
    /// The text itself. Never into a log, an error or an answer.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// One caller of the API.
#[derive(Clone, Debug)]
pub struct Credential {
    pub secret_id: String,
    pub secret_key: Secret,
    pub role: Role,
}

pub(super) const CREDENTIALS_MAX: usize = 100;
const SECRET_ID_BYTES_MAX: usize = 128;
/// 128 bits, if every bit is random; what the vendor's console makes has 32 bytes.
const SECRET_KEY_BYTES: RangeInclusive<usize> = 16..=256;
const CREDENTIAL_KEYS: [&str; 3] = ["secret_id", "secret_key", "role"];

impl Value for Vec<Credential> {
    type Bounds = usize;
    const BLOCKS: bool = true;
    fn read(value: &Spanned<DeValue<'_>>, count_max: &usize, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(array) = value.get_ref().as_array() else {
            reader.wrong_type(value, "a list of [[api.credentials]] blocks");
            return None;
        };
        if array.len() > *count_max {
            reader.out_of_bounds(value, format!("[{} entries]", array.len()), Self::values(count_max));
            return None;
        }
        let (name, mut ids, mut credentials) = (reader.key.clone(), BTreeSet::new(), Vec::with_capacity(array.len()));
        for item in array.iter() {
            reader.key.clone_from(&name);
            let Some(table) = item.get_ref().as_table() else {
                reader.wrong_type(item, "a list of [[api.credentials]] blocks");
                continue;
            };
            let Some(credential) = read_credential(&name, table, item.span().start, reader) else { continue };
            if !ids.insert(credential.secret_id.clone()) {
                reader.key.clone_from(&name);
                reader.refuse(item.span().start, "has two entries with the same secret_id");
                continue;
            }
            credentials.push(credential);
        }
        Some(credentials)
    }
    fn show(&self) -> String {
        // Only ever asked for the default, which holds none; and the keys of others are not shown anyway.
        format!("[{}]", self.iter().map(|credential| show_text(&credential.secret_id)).collect::<Vec<_>>().join(", "))
    }
    fn values(count_max: &usize) -> String {
        format!("at most {count_max} blocks")
    }
}

/// `offset`: of the block's head, for what is missing in it.
fn read_credential(name: &str, table: &DeTable<'_>, offset: usize, reader: &mut Reader<'_>) -> Option<Credential> {
    for key in table.keys().filter(|key| !CREDENTIAL_KEYS.contains(&key.get_ref().as_ref())) {
        reader.enter(&format!("{name}.{}", key.get_ref()), key.span().start);
        reader.unknown_key();
    }
    let mut field = |key: &str| {
        reader.key = format!("{name}.{key}");
        let value = table.get(key);
        if value.is_none() {
            reader.refuse(offset, "is missing");
        }
        value
    };
    let (id, key, role) = (field("secret_id"), field("secret_key"), field("role"));
    let (id, key, role) = (id?, key?, role?);

    reader.key = format!("{name}.secret_id");
    let secret_id = read_text(id, reader)?;
    if secret_id.is_empty() || secret_id.len() > SECRET_ID_BYTES_MAX || !secret_id.bytes().all(|byte| byte.is_ascii_graphic()) {
        reader.refuse(id.span().start, &format!("must be 1 to {SECRET_ID_BYTES_MAX} printable ASCII characters without spaces"));
        return None;
    }
    reader.key = format!("{name}.secret_key");
    let secret_key = read_text(key, reader)?;
    if !SECRET_KEY_BYTES.contains(&secret_key.len()) {
        reader.refuse(key.span().start, &format!("must have {} to {} bytes", SECRET_KEY_BYTES.start(), SECRET_KEY_BYTES.end()));
        return None;
    }
    reader.key = format!("{name}.role");
    Some(Credential { secret_id: secret_id.to_owned(), secret_key: Secret::new(secret_key), role: Role::read(role, &(), reader)? })
}
