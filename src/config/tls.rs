//! The certificates of RTMPS: where they lie. Whether they can be used is found when they are read.

use std::path::PathBuf;

use toml::Spanned;
use toml::de::DeValue;

use super::value::{Reader, Value, read_text, show_text};

/// One certificate with its key, both PEM files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsCertificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Names that one appliance is reached by.
pub(super) const TLS_CERTIFICATES_MAX: usize = 100;
const BLOCK: &str = "ingest.tls_certificates";

impl Value for Vec<TlsCertificate> {
    type Bounds = usize;
    const BLOCKS: bool = true;
    fn read(value: &Spanned<DeValue<'_>>, count_max: &usize, reader: &mut Reader<'_>) -> Option<Self> {
        let expected = format!("a list of [[{BLOCK}]] blocks");
        let Some(array) = value.get_ref().as_array() else {
            reader.wrong_type(value, &expected);
            return None;
        };
        if array.len() > *count_max {
            reader.out_of_bounds(value, format!("[{} entries]", array.len()), Self::values(count_max));
            return None;
        }
        let mut certificates = Self::with_capacity(array.len());
        for item in array.iter() {
            let Some(table) = item.get_ref().as_table() else {
                reader.wrong_type(item, &expected);
                continue;
            };
            for key in table.keys().filter(|key| !["certificate", "key"].contains(&key.get_ref().as_ref())) {
                reader.enter(&format!("{BLOCK}.{}", key.get_ref()), key.span().start);
                reader.unknown_key();
            }
            let mut path = |key: &str| {
                reader.key = format!("{BLOCK}.{key}");
                let Some(value) = table.get(key) else {
                    reader.refuse(item.span().start, "is missing");
                    return None;
                };
                let text = read_text(value, reader)?;
                if text.is_empty() {
                    reader.refuse(value.span().start, "is empty");
                    return None;
                }
                Some(PathBuf::from(text))
            };
            let (certificate, key) = (path("certificate"), path("key"));
            certificates.extend(certificate.zip(key).map(|(certificate, key)| TlsCertificate { certificate, key }));
        }
        Some(certificates)
    }
    fn show(&self) -> String {
        format!("[{}]", self.iter().map(|files| show_text(&files.certificate.to_string_lossy())).collect::<Vec<_>>().join(", "))
    }
    fn values(count_max: &usize) -> String {
        format!("at most {count_max} blocks")
    }
}
