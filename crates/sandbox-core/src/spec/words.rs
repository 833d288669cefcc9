//! Tables of words, in which a number or a truth value may stand without quotes.

use std::{collections::BTreeMap, fmt};

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

struct Word(String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Word;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, a number, or true or false")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Word, E> {
                Ok(Word(value.to_owned()))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Word, E> {
                Ok(Word(value.to_string()))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Word, E> {
                Ok(Word(value.to_string()))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Word, E> {
                Ok(Word(u8::from(value).to_string()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Reads such a table.
pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let words = BTreeMap::<String, Word>::deserialize(deserializer)?;
    Ok(words.into_iter().map(|(key, Word(word))| (key, word)).collect())
}

/// Its schema.
pub(super) fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": {"type": ["string", "integer", "boolean"]},
        "default": {},
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_number_needs_no_quotes() {
        let layer: crate::spec::Layer = toml::from_str(
            "schema = 1\nname = \"p\"\n[sysctl]\n\"a.b\" = 1\n\"a.c\" = true\n\"a.d\" = \"1 2\"\n",
        )
        .unwrap();
        let values: Vec<_> = layer.sysctl.values().map(String::as_str).collect();
        assert_eq!(values, ["1", "1", "1 2"]);
        assert!(
            toml::from_str::<crate::spec::Layer>("schema = 1\nname = \"p\"\n[sysctl]\na = [1]\n").is_err()
        );
    }
}
