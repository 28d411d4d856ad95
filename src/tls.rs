//! The one TLS stack: rustls with aws-lc-rs. An HTTP client is built only after this was called.

/// Makes aws-lc-rs what rustls computes with. Cheap, and harmless when repeated.
pub fn install_provider() {
    // An error says that there is a provider already, which is all that is wanted.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}
