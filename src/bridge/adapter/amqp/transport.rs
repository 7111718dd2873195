//! The way to the broker: a TCP connection, in the clear or over TLS by rustls.
//!
//! The library would take a user's roots beside the system's. Who names an authority means that one
//! alone, so the configuration is ours, and the same as that of a `tls://` end: the broker's
//! certificate is always verified, for the host of the URL.

use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};

use crate::bridge::error::BridgeError;
use crate::bridge::url::AmqpEnd;

/// What each connection of an end needs.
#[derive(Clone, Debug)]
pub(super) enum Transport {
    Clear,
    #[cfg(feature = "bridge-tls")]
    Tls(std::sync::Arc<rustls::ClientConfig>),
}

impl Transport {
    /// # Errors
    /// If TLS was not built in, or the end's credentials cannot be used.
    pub(super) fn new(end: &AmqpEnd) -> Result<Self, BridgeError> {
        match &end.tls {
            None => Ok(Self::Clear),
            #[cfg(feature = "bridge-tls")]
            Some(files) => {
                use crate::bridge::adapter::tls;
                tls::check_host(&end.host)?;
                tls::client(files, tls::ANY_VERSION).map(Self::Tls)
            }
            #[cfg(not(feature = "bridge-tls"))]
            Some(_) => Err(BridgeError::Ends(
                "this was built without TLS: build it with the feature `bridge-tls`",
            )),
        }
    }

    pub(super) async fn connect(
        &self,
        uri: AMQPUri,
        properties: ConnectionProperties,
    ) -> lapin::Result<Connection> {
        match self {
            Self::Clear => Connection::connect_uri(uri, properties).await,
            #[cfg(feature = "bridge-tls")]
            Self::Tls(config) => {
                use lapin::tcp::{AMQPUriTcpExt, RustlsConnector};
                let connector = RustlsConnector::from(std::sync::Arc::clone(config));
                let runtime = lapin::runtime::default_runtime()?;
                // Its scheme is the one without TLS, and what it connects is encrypted here.
                let connect = async move |uri: AMQPUri, runtime| {
                    let stream = uri.connect_async(&runtime).await?;
                    let host = &uri.authority.host;
                    Ok(stream.into_rustls(&connector, host).await?)
                };
                Connection::connector(uri, runtime, connect, properties).await
            }
        }
    }
}
