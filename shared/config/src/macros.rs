//! The two macros in which settings are declared.

/// Declares a struct of settings and how to read it.
///
/// Every field has a documentation, a type that is a [`Value`](crate::Value), a default written as text and a unit; then, in this
/// order and each optional, a range (both ends allowed) and the values of the two profiles. An optional block `groups`
/// embeds the settings that another crate declares.
///
/// ```
/// config::settings! {
///     /// Settings of a lamp.
///     pub struct Lamp {
///         /// Brightness.
///         pub lamp_brightness: u16 = "80", unit "percent", range "0" to "100", development "10", production "100";
///     }
/// }
/// config::settings! {
///     /// Settings of a room.
///     pub struct Room {
///         /// Name on the door.
///         pub room_name: Option<String> = "", unit "text";
///     }
///     groups {
///         /// The lamp in it.
///         pub lamp: Lamp;
///     }
/// }
/// let room = Room { room_name: Some("study".to_owned()), ..Room::defaults() };
/// assert_eq!(room.lamp.lamp_brightness, 80);
/// ```
///
/// Generates the struct (`Clone`, `Debug`), its [`Settings`](crate::Settings), `load(&Sources) -> Result<Self, Faults>` and
/// `defaults() -> Self`.
#[macro_export]
macro_rules! settings {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $field_vis:vis $field:ident : $type:ty = $default:literal, unit $unit:literal
                $(, range $low:literal to $high:literal)?
                $(, development $development:literal)?
                $(, production $production:literal)?
                ;
            )*
        }
        $(groups { $($(#[$group_meta:meta])* $group_vis:vis $group:ident : $group_type:ty ;)* })?
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        $vis struct $name {
            $($(#[doc = $doc])+ $field_vis $field: $type,)*
            $($($(#[$group_meta])* $group_vis $group: $group_type,)*)?
        }

        impl $crate::Settings for $name {
            fn declared() -> ::std::vec::Vec<&'static $crate::Setting> {
                let own: ::std::vec::Vec<&'static $crate::Setting> = ::std::vec![$({
                    static SETTING: $crate::Setting = $crate::Setting::new(
                        ::core::stringify!($field),
                        ::core::concat!($($doc, "\n"),+),
                        <$type as $crate::Value>::KIND,
                        $unit,
                        $default,
                    )
                    $(.range($low, $high))?
                    $(.development($development))?
                    $(.production($production))?;
                    &SETTING
                },)*];
                let groups: ::std::vec::Vec<::std::vec::Vec<&'static $crate::Setting>> =
                    ::std::vec![$($(<$group_type as $crate::Settings>::declared(),)*)?];
                own.into_iter().chain(groups.into_iter().flatten()).collect()
            }

            fn read(reader: &mut $crate::Reader<'_>) -> ::core::option::Option<Self> {
                // Every field is read before the first missing one ends this: all faults are reported together.
                let mut own = <Self as $crate::Settings>::declared().into_iter();
                $(let $field: ::core::option::Option<$type> = own.next().and_then(|setting| reader.read(setting));)*
                $($(let $group = <$group_type as $crate::Settings>::read(reader);)*)?
                ::core::option::Option::Some(Self { $($field: $field?,)* $($($group: $group?,)*)? })
            }
        }

        impl $name {
            /// Reads these settings from `sources`.
            ///
            /// # Errors
            /// Every fault in the settings declared here, and in what the sources themselves could not read. Names that
            /// nothing declares are not looked at: another service may own them (see `Sources::unknown`).
            $vis fn load(sources: &$crate::Sources) -> ::core::result::Result<Self, $crate::Faults> {
                $crate::load(sources)
            }

            /// Returns every setting at its default, without any profile.
            #[must_use]
            $vis fn defaults() -> Self {
                $crate::of_defaults()
            }
        }

        // Whoever reads the settings by one of the two is not told that the other is unused.
        const _: (fn(&$crate::Sources) -> ::core::result::Result<$name, $crate::Faults>, fn() -> $name) =
            ($name::load, $name::defaults);
    };
}

/// Declares an enum whose variants are words in a setting.
///
/// ```
/// config::choice! {
///     /// How a log line looks.
///     pub enum LogFormat {
///         /// For people.
///         Pretty = "pretty",
///         /// For machines.
///         Json = "json",
///     }
/// }
/// assert_eq!(<LogFormat as config::Value>::parse("json"), Some(LogFormat::Json));
/// assert_eq!(LogFormat::Pretty.to_string(), "pretty");
/// ```
///
/// Generates the enum (`Clone`, `Copy`, `Debug`, `PartialEq`, `Eq`, `Hash`, `Display`), its [`Value`](crate::Value) and
/// `as_str()`.
#[macro_export]
macro_rules! choice {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident {
            $($(#[$variant_meta:meta])* $variant:ident = $word:literal),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $vis enum $name {
            $($(#[$variant_meta])* $variant,)+
        }

        impl $name {
            /// Returns the word that stands for this variant in a setting.
            #[must_use]
            $vis fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl ::core::fmt::Display for $name {
            fn fmt(&self, out: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                out.write_str(self.as_str())
            }
        }

        impl $crate::Value for $name {
            const KIND: $crate::Kind = $crate::Kind::Choice(&[$($word),+]);

            fn parse(text: &str) -> ::core::option::Option<Self> {
                match text {
                    $($word => ::core::option::Option::Some(Self::$variant),)+
                    _ => ::core::option::Option::None,
                }
            }
        }
    };
}
