//! Whether answers to other questions serve.

config::choice! {
    /// Whether answers to questions that ask the same in other words serve.
    pub enum Mode {
        /// Questions are not compared.
        Off = "off",
        /// Questions are compared and the model is asked all the same, to count whether it says what would have served.
        Shadow = "shadow",
        /// An answer that may serve does.
        On = "on",
    }
}

impl serde::de::Expected for Mode {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("`off`, `shadow` or `on`")
    }
}

impl<'de> serde::Deserialize<'de> for Mode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        <Self as config::Value>::parse(&word)
            .ok_or_else(|| serde::de::Error::invalid_value(serde::de::Unexpected::Str(&word), &Self::Off))
    }
}
