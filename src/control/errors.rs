//! What a refused call says: a code that clients know, a message for the caller and, where needed, another one for the log.

use crate::catalog::CatalogError;

/// An error answer of the API. `code` is one of the documented ones; `message` names the field and the bound.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    pub code: &'static str,
    pub message: String,
    /// For the log only: what a caller cannot use or must not see.
    pub detail: Option<String>,
}

/// Shorthand for the many places that refuse: code and message.
pub fn refuse(code: &'static str, message: impl Into<String>) -> ApiError {
    ApiError { code, message: message.into(), detail: None }
}

impl ApiError {
    pub fn missing(name: &str) -> Self {
        refuse("MissingParameter", format!("The parameter {name} is required."))
    }

    pub fn unknown(name: &str) -> Self {
        refuse("UnknownParameter", format!("The parameter {name} is not known to this action."))
    }

    /// Malformed or of the wrong type.
    pub fn invalid(message: impl Into<String>) -> Self {
        refuse("InvalidParameter", message)
    }

    /// Well-formed but outside what is allowed.
    pub fn value(message: impl Into<String>) -> Self {
        refuse("InvalidParameterValue", message)
    }

    /// Our fault. Client libraries retry on it, so it never answers a client's mistake.
    pub fn internal(detail: impl Into<String>) -> Self {
        let message = "The appliance could not carry out the call; its log says why.".to_owned();
        Self { code: "InternalError", message, detail: Some(detail.into()) }
    }

    pub fn too_large(bytes_max: usize) -> Self {
        refuse("RequestSizeLimitExceeded", format!("The request is larger than {bytes_max} bytes."))
    }

    /// The HTTP status of the answer: 200 for every error of an action, because client libraries look for the code only then.
    pub fn http_status(&self) -> u16 {
        match self.code {
            "UnsupportedProtocol" => 405,
            "RequestSizeLimitExceeded" => 413,
            _ => 200,
        }
    }
}

/// Maps what the catalog says where an action has no code of its own for it.
impl From<CatalogError> for ApiError {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::NotFound => refuse("FailedOperation.NotFound", "There is no such entry."),
            CatalogError::InUse => refuse("FailedOperation.ConfInUsed", "The entry is in use."),
            error @ (CatalogError::Exists
            | CatalogError::Limit { .. }
            | CatalogError::DayLimit { .. }
            | CatalogError::Storage(_)
            | CatalogError::Damaged(_)) => Self::internal(error.to_string()),
        }
    }
}
