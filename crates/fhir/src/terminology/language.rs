//! Language tags.
//!
//! The form of a tag is checked fully; of its subtags, the two-letter languages and countries against
//! their lists. Three-letter languages, scripts and variants stand in a register of thousands that is not
//! part of this crate: such tags have a form, and are otherwise undecided.
//! Start at [`LanguageTag::parse`].

use super::countries;
use super::grammar::LanguagePart;

/// Longest tag that is looked at.
const LENGTH_MAX: usize = 255;

/// The two-letter languages.
///
/// # Source
/// ISO 639-1 as registered by the IANA Language Subtag Registry (RFC 5646 section 3); with the code `sh`,
/// which is deprecated there but registered.
const LANGUAGES: &str = "aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs \
cu cv cy da de dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz \
ia id ie ig ii ik in io is it iu iw ja ji jv jw ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln \
lo lt lu lv mg mh mi mk ml mn mo mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt \
qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts \
tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu";

/// Tags that were registered before there was a form.
///
/// # Source
/// RFC 5646 section 2.1, `irregular` and `regular`.
const GRANDFATHERED: [&str; 26] = [
    "en-gb-oed",
    "i-ami",
    "i-bnn",
    "i-default",
    "i-enochian",
    "i-hak",
    "i-klingon",
    "i-lux",
    "i-mingo",
    "i-navajo",
    "i-pwn",
    "i-tao",
    "i-tay",
    "i-tsu",
    "sgn-be-fr",
    "sgn-be-nl",
    "sgn-ch-de",
    "art-lojban",
    "cel-gaulish",
    "no-bok",
    "no-nyn",
    "zh-guoyu",
    "zh-hakka",
    "zh-min",
    "zh-min-nan",
    "zh-xiang",
];

/// A language tag, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LanguageTag<'a> {
    language: &'a str,
    extended: bool,
    script: bool,
    region: Option<&'a str>,
    variant: bool,
    extension: bool,
    private: bool,
    grandfathered: bool,
}

/// The text has not the form of a language tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotATag;

impl<'a> LanguageTag<'a> {
    /// Reads a tag.
    ///
    /// # Source
    /// RFC 5646 section 2.1 (BCP 47).
    pub(super) fn parse(text: &'a str) -> Result<Self, NotATag> {
        if text.len() > LENGTH_MAX || !text.is_ascii() {
            return Err(NotATag);
        }
        let is_subtag =
            |it: &str| (1..=8).contains(&it.len()) && it.bytes().all(|b| b.is_ascii_alphanumeric());
        if !text.split('-').all(is_subtag) {
            return Err(NotATag);
        }
        if GRANDFATHERED.iter().any(|it| it.eq_ignore_ascii_case(text)) {
            return Ok(Self {
                language: text,
                grandfathered: true,
                ..Self::default()
            });
        }
        let mut subtags = text.split('-').peekable();
        let mut tag = Self::default();
        let first = subtags.next().unwrap_or_default();
        if first.eq_ignore_ascii_case("x") {
            tag.private = true;
            return subtags.next().map(|_| tag).ok_or(NotATag);
        }
        if !(2..=8).contains(&first.len()) || !is_alphabetic(first) {
            return Err(NotATag);
        }
        tag.language = first;
        let mut extended = 0;
        while first.len() <= 3
            && extended < 3
            && subtags
                .next_if(|it| it.len() == 3 && is_alphabetic(it))
                .is_some()
        {
            extended += 1;
        }
        tag.extended = extended > 0;
        tag.script = subtags
            .next_if(|it| it.len() == 4 && is_alphabetic(it))
            .is_some();
        tag.region = subtags.next_if(|it| {
            it.len() == 2 && is_alphabetic(it)
                || it.len() == 3 && it.bytes().all(|b| b.is_ascii_digit())
        });
        while subtags
            .next_if(|it| {
                it.len() >= 5 || it.len() == 4 && it.starts_with(|c: char| c.is_ascii_digit())
            })
            .is_some()
        {
            tag.variant = true;
        }
        while let Some(singleton) = subtags.next() {
            if singleton.len() != 1 {
                return Err(NotATag);
            }
            if singleton.eq_ignore_ascii_case("x") {
                tag.private = true;
                return subtags.next().map(|_| tag).ok_or(NotATag);
            }
            tag.extension = true;
            let mut parts = 0;
            while subtags.next_if(|it| it.len() >= 2).is_some() {
                parts += 1;
            }
            if parts == 0 {
                return Err(NotATag);
            }
        }
        Ok(tag)
    }

    /// Whether the tag has that part.
    pub(super) fn has(&self, part: LanguagePart) -> bool {
        match part {
            LanguagePart::ExtendedLanguage => self.extended,
            LanguagePart::Script => self.script,
            LanguagePart::Region => self.region.is_some(),
            LanguagePart::Variant => self.variant,
            LanguagePart::Extension => self.extension,
            LanguagePart::PrivateUse => self.private,
        }
    }

    /// Whether all subtags are registered; `None` if that takes the register.
    pub(super) fn is_registered(&self) -> Option<bool> {
        if self.grandfathered {
            return Some(true);
        }
        if self.language.len() == 2
            && !countries::stands_in(LANGUAGES, 3, &self.language.to_ascii_lowercase())
        {
            return Some(false);
        }
        if let Some(region) = self.region
            && region.len() == 2
            && !countries::is_alpha2(region)
            && !is_reserved_region(region)
        {
            return Some(false);
        }
        let is_known = self.language.len() == 2
            && !self.extended
            && !self.script
            && !self.variant
            && !self.extension
            && !self.private
            && self.region.is_none_or(|it| it.len() == 2);
        is_known.then_some(true)
    }
}

fn is_alphabetic(text: &str) -> bool {
    text.bytes().all(|it| it.is_ascii_alphabetic())
}

/// Regions that are registered for languages though they are no countries of ISO 3166-1, or no longer.
///
/// # Source
/// IANA Language Subtag Registry: exceptionally reserved and withdrawn codes; RFC 5646 section 2.2.4 for
/// private use.
fn is_reserved_region(region: &str) -> bool {
    const RESERVED: &str =
        "AA AC AN BU CP CQ CS DD DG EA EU EZ FX IC NT SU TA TP UN XK YD YU ZR ZZ";
    let region = region.to_ascii_uppercase();
    RESERVED.split(' ').any(|it| it == region)
        || matches!(region.as_bytes(), [b'Q', b'M'..=b'Z'] | [b'X', _])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_the_nearest_text_that_is_none() {
        for tag in [
            "en",
            "en-US",
            "de-CH-1996",
            "zh-Hans-CN",
            "zh-cmn-Hans-CN",
            "sl-rozaj-biske",
            "es-419",
            "en-u-islamcal",
            "x-whatever",
            "en-x-private",
            "i-klingon",
            "EN-us",
            "de-CH-x-phonebk",
            "en-GB-oed",
            "haw",
        ] {
            assert!(LanguageTag::parse(tag).is_ok(), "{tag}");
        }
        for text in [
            "",
            "e",
            "en_US",
            "en-",
            "-en",
            "en--US",
            "x",
            "en-u",
            "en-x",
            "de-419-DE",
            "a-DE",
            "ar-a-aaa-b",
            "englishlanguage",
            "en US",
            "日本",
            "1n",
            "en-US-u-",
        ] {
            assert!(LanguageTag::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_listed_language_is_found() {
        for language in LANGUAGES.split(' ') {
            assert_eq!(
                LanguageTag::parse(language).unwrap().is_registered(),
                Some(true),
                "{language}"
            );
        }
    }

    #[test]
    fn registers_decide_only_what_they_hold() {
        for (tag, answer) in [
            ("en", Some(true)),
            ("en-US", Some(true)),
            ("en-us", Some(true)),
            ("en-XK", Some(true)),
            ("i-klingon", Some(true)),
            ("qq", Some(false)),
            ("en-QQ", Some(true)),
            ("en-UQ", Some(false)),
            ("haw", None),
            ("zh-Hans", None),
            ("es-419", None),
        ] {
            assert_eq!(
                LanguageTag::parse(tag).unwrap().is_registered(),
                answer,
                "{tag}"
            );
        }
    }
}
