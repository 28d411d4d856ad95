//! The one TLS stack: rustls with aws-lc-rs. An HTTP client is built only after this was called.

use std::error::Error;
use std::io;

/// Makes aws-lc-rs what rustls computes with. Cheap, and harmless when repeated.
pub fn install_provider() {
    // An error says that there is a provider already, which is all that is wanted.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}

/// Whether a connection failed because of the server's certificate.
pub fn is_untrusted(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
            return true;
        }
        // Its source is that of what it wraps.
        let wrapped = error.downcast_ref().and_then(io::Error::get_ref);
        cause = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    false
}
