//! Who may call the API. Nothing in here ever prints a key.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
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

/// The secret that callbacks are signed with besides their own way, as Standard Webhooks writes it; `None`: they are not.
#[derive(Clone, Debug, Default)]
pub struct WebhookSecret(Option<Secret>);

/// What the specification allows.
const WEBHOOK_SECRET_BYTES: RangeInclusive<usize> = 24..=64;

impl WebhookSecret {
    /// The key itself. Never into a log, an error or an answer.
    pub fn expose(&self) -> Option<Vec<u8>> {
        self.0.as_ref().and_then(|secret| Self::decode(secret.expose()))
    }

    fn decode(text: &str) -> Option<Vec<u8>> {
        let key = STANDARD.decode(text.strip_prefix("whsec_")?).ok()?;
        WEBHOOK_SECRET_BYTES.contains(&key.len()).then_some(key)
    }
}

impl Value for WebhookSecret {
    type Bounds = ();
    fn read(value: &Spanned<DeValue<'_>>, _: &(), reader: &mut Reader<'_>) -> Option<Self> {
        let text = read_text(value, reader)?;
        if text.is_empty() {
            return Some(Self(None));
        }
        if Self::decode(text).is_none() {
            reader.refuse(value.span().start, &format!("must be empty or {}", Self::values(&())));
            return None;
        }
        Some(Self(Some(Secret::new(text))))
    }
    fn show(&self) -> String {
        // Only ever asked for the default, which is none; and a secret is not shown anyway.
        show_text("")
    }
    fn values(_: &()) -> String {
        format!("`whsec_` and {} to {} bytes in Base64", WEBHOOK_SECRET_BYTES.start(), WEBHOOK_SECRET_BYTES.end())
    }
}

/// One caller of the API who signs.
#[derive(Clone, Debug)]
pub struct Credential {
    pub secret_id: String,
    pub secret_key: Secret,
    pub role: Role,
}

/// One caller of the API who sends `Authorization: Bearer ...`.
#[derive(Clone, Debug)]
pub struct BearerToken {
    /// Whose it is; for the log.
    pub name: String,
    pub token: Secret,
    pub role: Role,
}

pub(super) const CREDENTIALS_MAX: usize = 100;
const NAME_BYTES_MAX: usize = 128;
/// 128 bits, if every bit is random; what the vendor's console makes has 32 bytes.
const SECRET_BYTES: RangeInclusive<usize> = 16..=256;

/// A block of settings that names a caller: two texts of its own, and a role.
trait Caller: Sized {
    /// Name of the setting and of the two texts in a block: who it is, and the secret that proves it.
    const BLOCK: &'static str;
    const NAME: &'static str;
    const SECRET: &'static str;
    /// The secret goes through HTTP headers as it is.
    const SECRET_IS_PRINTABLE: bool;
    fn new(name: &str, secret: Secret, role: Role) -> Self;
    fn name(&self) -> &str;
    fn secret(&self) -> &Secret;
}

impl Caller for Credential {
    const BLOCK: &'static str = "api.credentials";
    const NAME: &'static str = "secret_id";
    const SECRET: &'static str = "secret_key";
    const SECRET_IS_PRINTABLE: bool = false;
    fn new(name: &str, secret: Secret, role: Role) -> Self {
        Self { secret_id: name.to_owned(), secret_key: secret, role }
    }
    fn name(&self) -> &str {
        &self.secret_id
    }
    fn secret(&self) -> &Secret {
        &self.secret_key
    }
}

impl Caller for BearerToken {
    const BLOCK: &'static str = "api.bearer_tokens";
    const NAME: &'static str = "name";
    const SECRET: &'static str = "token";
    const SECRET_IS_PRINTABLE: bool = true;
    fn new(name: &str, secret: Secret, role: Role) -> Self {
        Self { name: name.to_owned(), token: secret, role }
    }
    fn name(&self) -> &str {
        &self.name
    }
    fn secret(&self) -> &Secret {
        &self.token
    }
}

impl<C: Caller> Value for Vec<C> {
    type Bounds = usize;
    const BLOCKS: bool = true;
    fn read(value: &Spanned<DeValue<'_>>, count_max: &usize, reader: &mut Reader<'_>) -> Option<Self> {
        let expected = format!("a list of [[{}]] blocks", C::BLOCK);
        let Some(array) = value.get_ref().as_array() else {
            reader.wrong_type(value, &expected);
            return None;
        };
        if array.len() > *count_max {
            reader.out_of_bounds(value, format!("[{} entries]", array.len()), Self::values(count_max));
            return None;
        }
        let (key, mut names, mut secrets) = (reader.key.clone(), BTreeSet::new(), BTreeSet::new());
        let mut callers: Self = Vec::with_capacity(array.len());
        for item in array.iter() {
            reader.key.clone_from(&key);
            let Some(table) = item.get_ref().as_table() else {
                reader.wrong_type(item, &expected);
                continue;
            };
            let Some(caller) = read_block::<C>(&key, table, item.span().start, reader) else { continue };
            reader.key.clone_from(&key);
            if !names.insert(caller.name().to_owned()) {
                reader.refuse(item.span().start, &format!("has two entries with the same {}", C::NAME));
                continue;
            }
            // Who has called must be clear, and with what role.
            if C::SECRET_IS_PRINTABLE && !secrets.insert(caller.secret().expose().to_owned()) {
                reader.refuse(item.span().start, &format!("has two entries with the same {}", C::SECRET));
                continue;
            }
            callers.push(caller);
        }
        Some(callers)
    }
    fn show(&self) -> String {
        // Only ever asked for the default, which holds none; and the keys of others are not shown anyway.
        format!("[{}]", self.iter().map(|caller| show_text(caller.name())).collect::<Vec<_>>().join(", "))
    }
    fn values(count_max: &usize) -> String {
        format!("at most {count_max} blocks")
    }
}

/// `offset`: of the block's head, for what is missing in it.
fn read_block<C: Caller>(block: &str, table: &DeTable<'_>, offset: usize, reader: &mut Reader<'_>) -> Option<C> {
    for key in table.keys().filter(|key| ![C::NAME, C::SECRET, "role"].contains(&key.get_ref().as_ref())) {
        reader.enter(&format!("{block}.{}", key.get_ref()), key.span().start);
        reader.unknown_key();
    }
    let mut field = |key: &str| {
        reader.key = format!("{block}.{key}");
        let value = table.get(key);
        if value.is_none() {
            reader.refuse(offset, "is missing");
        }
        value
    };
    let (name_value, secret_value, role) = (field(C::NAME), field(C::SECRET), field("role"));
    let (name_value, secret_value, role) = (name_value?, secret_value?, role?);
    let is_printable = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());

    reader.key = format!("{block}.{}", C::NAME);
    let name = read_text(name_value, reader)?;
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !is_printable(name) {
        reader.refuse(name_value.span().start, &format!("must be 1 to {NAME_BYTES_MAX} printable ASCII characters without spaces"));
        return None;
    }
    reader.key = format!("{block}.{}", C::SECRET);
    let secret = read_text(secret_value, reader)?;
    if !SECRET_BYTES.contains(&secret.len()) {
        reader.refuse(secret_value.span().start, &format!("must have {} to {} bytes", SECRET_BYTES.start(), SECRET_BYTES.end()));
        return None;
    }
    if C::SECRET_IS_PRINTABLE && !is_printable(secret) {
        reader.refuse(secret_value.span().start, "must be printable ASCII characters without spaces");
        return None;
    }
    reader.key = format!("{block}.role");
    Some(C::new(name, Secret::new(secret), Role::read(role, &(), reader)?))
}
