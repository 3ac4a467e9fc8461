//! Addresses in answers, events and callbacks get a signature where their application is protected.

use serde_json::Value;

use crate::catalog::Catalog;
use crate::delivery::protect::Protections;
use crate::delivery::resolve::VOD_PREFIX;
use crate::domain::url_sign::Terms;
use crate::domain::vod::RING_APP;
use crate::units::FileId;

/// What is needed to sign.
#[derive(Clone, Copy)]
pub struct Signing<'a> {
    pub protections: &'a Protections,
    pub catalog: &'a Catalog,
    pub public_base: &'a str,
    pub app_id: u64,
    pub now_s: i64,
    /// Of whom a file is that is not in the catalog (yet).
    pub app: u64,
    /// What the addresses allow; `None`: as the application's settings say.
    pub terms: Option<&'a Terms>,
}

impl Signing<'_> {
    /// Signs every address of a file of ours in a value.
    pub fn all(&self, value: &mut Value) {
        if self.protections.is_empty() {
            return;
        }
        match value {
            Value::String(text) => {
                if let Some(signed) = self.address(text) {
                    *text = signed;
                }
            }
            Value::Array(values) => values.iter_mut().for_each(|value| self.all(value)),
            Value::Object(fields) => fields.values_mut().for_each(|value| self.all(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// The address with a signature; `None`: it needs none.
    fn address(&self, text: &str) -> Option<String> {
        let path = text.strip_prefix(self.public_base)?;
        let rest = path.strip_prefix(VOD_PREFIX)?.strip_prefix(&self.app_id.to_string())?.strip_prefix('/')?;
        let (id, name) = rest.split_once('/')?;
        let id = FileId::parse(id).filter(|_| !name.is_empty() && !text.contains("sign="))?;
        let dir = format!("{VOD_PREFIX}{}/{id}/", self.app_id);
        self.signed(self.app_of(id), text, &dir)
    }

    /// An address of this application.
    pub fn signed(&self, app: u64, address: &str, dir: &str) -> Option<String> {
        let protection = self.protections.of(app)?;
        let usual = protection.terms(self.now_s);
        Some(protection.signed(address, dir, self.terms.unwrap_or(&usual)))
    }

    fn app_of(&self, id: FileId) -> u64 {
        match self.catalog.playable(id) {
            Ok(Some((row, _))) if row.sub_app_id == RING_APP => row.file.identity.vod_sub_app_id,
            Ok(Some((row, _))) => row.sub_app_id,
            Ok(None) => self.app,
            Err(error) => {
                tracing::error!(%error, "the catalog cannot be read to sign an address");
                self.app
            }
        }
    }
}
