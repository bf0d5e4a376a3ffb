//! Data classes as types: a client is made for one class, and what it can send follows from that. Only a client for
//! PHI takes a body that is not inspected.

use chaperone_core::egress::DataClass;

/// A class of data.
pub trait Declared: sealed::Sealed + Send + Sync + 'static {
    /// Which.
    const CLASS: DataClass;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! classes {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub enum $name {}

        impl sealed::Sealed for $name {}

        impl Declared for $name {
            const CLASS: DataClass = DataClass::$name;
        }
    )*};
}

classes! {
    /// Nothing of the organisation.
    None;
    /// About the running of things.
    Operational;
    /// De-identified by Safe Harbor.
    DeIdentified;
    /// Health information that leads to a patient.
    Phi;
}
