//! Who calls: a token, or a GitHub App with its private key. Shown to nobody.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;

use crate::github::error::Fault;
use crate::model::secret::Secret;

/// Who calls.
#[derive(Debug)]
pub enum Credentials {
    /// A token of a user, classic or fine-grained, or one that a workflow was given.
    Token(Secret),
    /// A GitHub App, which acts as `<slug>[bot]`.
    App(App),
}

/// A GitHub App.
#[derive(Debug)]
pub struct App {
    id: String,
    key: PrivateKey,
    /// `None`: looked up for each repository.
    pub(super) installation: Option<u64>,
}

struct PrivateKey(RsaKeyPair);

impl fmt::Debug for PrivateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// How far a server's clock may be behind ours before it calls a statement "from the future".
const BACKDATED: TimeDelta = TimeDelta::seconds(60);
/// GitHub allows ten minutes.
const VALID_FOR: TimeDelta = TimeDelta::seconds(540);

impl App {
    /// An app by its id (or client id) and its private key as PEM, in PKCS#1 as GitHub hands it
    /// out or in PKCS#8. The installation is looked up by repository when it is not given.
    ///
    /// # Errors
    /// When the text is no RSA key.
    pub fn new(
        id: impl Into<String>,
        pem: &Secret,
        installation: Option<u64>,
    ) -> Result<Self, Fault> {
        let wrong = |why: &str| Fault::Credentials(format!("the app's private key {why}"));
        let key = match PrivateKeyDer::from_pem_slice(pem.expose().as_bytes()) {
            Ok(PrivateKeyDer::Pkcs1(der)) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            Ok(PrivateKeyDer::Pkcs8(der)) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            Ok(_) => return Err(wrong("is not of the kind RSA")),
            Err(_) => {
                return Err(wrong(
                    "is not PEM: `-----BEGIN … PRIVATE KEY-----` is needed",
                ));
            }
        };
        Ok(Self {
            id: id.into(),
            key: PrivateKey(key.map_err(|_| wrong("is not a valid RSA key"))?),
            installation,
        })
    }

    /// The app's id, which is no secret.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The signed statement (JWT) by which the app itself calls; valid for some minutes.
    pub(super) fn statement(&self, now: DateTime<Utc>) -> Secret {
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!(
            "{}.{}",
            part(json!({"alg": "RS256", "typ": "JWT"})),
            part(json!({
                "iat": (now - BACKDATED).timestamp(),
                "exp": (now + VALID_FOR).timestamp(),
                "iss": self.id,
            }))
        );
        let mut signature = vec![0; self.key.0.public_modulus_len()];
        self.key
            .0
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                text.as_bytes(),
                &mut signature,
            )
            .expect("the buffer is as long as the key, and the system has random numbers");
        Secret::new(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
