//! Reads typed settings (defaults < profile < file < environment < flags) and reports every fault at once.
//!
//! A crate declares its settings with [`settings!`]: a plain struct with, for each field, its documentation, default, unit
//! and range. [`Sources`] holds what was given; loading takes, for every setting, the strongest source that names it:
//!
//! 1. the default in the declaration,
//! 2. the profile (`development` or `production`), where the declaration has a value for it,
//! 3. the file: TOML with flat setting names, no sections,
//! 4. the environment: `ATHENA_` and the setting's name in upper case (or an alias such as `PORT`),
//! 5. flags: `--set name=value`.
//!
//! All faults are reported together, each with the setting's name, the bad value, where it came from (down to the line of
//! the file) and what is expected. The value of a [`Secret`] is never printed, not even a bad one.
//!
//! ```
//! use std::time::Duration;
//!
//! config::settings! {
//!     /// Settings of a bakery.
//!     pub struct Config {
//!         /// Most loaves on the shelf.
//!         pub bakery_shelf: u32 = "20", unit "loaves", range "1" to "500";
//!         /// How long a loaf counts as fresh.
//!         pub bakery_fresh: Duration = "24h", unit "duration", range "1m" to "7d", development "1m";
//!     }
//! }
//!
//! let sources = config::Sources::none()
//!     .with_profile(config::Profile::Development)
//!     .with_env([("ATHENA_BAKERY_SHELF".to_owned(), "30".to_owned())]);
//! let config = Config::load(&sources)?;
//! assert_eq!(config.bakery_shelf, 30);
//! assert_eq!(config.bakery_fresh, Duration::from_secs(60));
//!
//! let faults = Config::load(&config::Sources::none().with_flags([("bakery_shelf".to_owned(), "0".to_owned())])).unwrap_err();
//! assert_eq!(faults.to_string(), r#"bakery_shelf = "0" (flag --set bakery_shelf): must be a whole number from 1 to 500"#);
//! # Ok::<(), config::Faults>(())
//! ```

mod fault;
mod file;
mod macros;
mod process;
mod reader;
mod setting;
mod sources;
mod table;
mod value;

pub use fault::{Fault, Faults, Problem};
pub use file::{line_of, malformed};
pub use reader::{Reader, Settings, Taken, load, load_alone, of_defaults};
pub use setting::{Kind, Setting};
pub use sources::{Origin, Profile, Sources};
pub use table::table;
pub use value::{ByteSize, Secret, Value};
