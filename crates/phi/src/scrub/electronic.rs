//! Addresses of the internet: mail, web, network, and names of accounts. Found by their form in the text
//! itself, before it is cut into words. Start at [`find`].

use super::budget::Spent;
use super::class::Class;
use super::search::{Basis, Search};

/// Ends of host names that are read as such without `www.` or a scheme before them.
///
/// # Source
/// IANA root zone: generic domains in common use, and those of countries whose letters are no English word.
const TOP_LEVEL: [&str; 24] = [
    "com", "org", "net", "edu", "gov", "mil", "info", "biz", "health", "care", "clinic",
    "hospital", "io", "app", "dev", "uk", "ca", "de", "fr", "mx", "eu", "us", "local", "example",
];

/// Longest address that is looked for, in bytes to each side.
const ADDRESS_BYTES_MAX: usize = 2_048;

/// Finds them.
pub(crate) fn find(search: &mut Search<'_, '_>) -> Result<(), Spent> {
    let text = search.reading.text;
    search.spend(text.len() / 8)?;
    let mut done = 0;
    // What was looked at around one dot or colon and is no address is not looked at around the next.
    let (mut dots_until, mut colons_until) = (0, 0);
    for (at, c) in text.char_indices() {
        if at < done {
            continue;
        }
        let found = match c {
            '@' | '\u{FF20}' => mail(text, at, c.len_utf8()),
            '[' | '(' | '{' => bracketed_mail(text, at),
            ':' if at >= colons_until => {
                colons_until = forth(text, at, is_hex_group);
                web(text, at).or_else(|| ipv6(text, at))
            }
            '.' if at >= dots_until => {
                dots_until = forth(text, at, is_host);
                host(text, at).or_else(|| ipv4(text, at))
            }
            _ => None,
        };
        if let Some((start, end, class)) = found {
            search.spend(end - start)?;
            if start >= done {
                search.take_bytes(start, end, class, Basis::Checked);
                done = end;
            }
        }
    }
    spelled_out(search)
}

/// The bytes before `at` for which all characters pass.
fn back(text: &str, at: usize, passes: impl Fn(char) -> bool) -> usize {
    let before = text.get(..at).unwrap_or("");
    let mut start = at;
    for (place, c) in before.char_indices().rev() {
        if !passes(c) || at - place > ADDRESS_BYTES_MAX {
            break;
        }
        start = place;
    }
    start
}

/// The bytes from `at` on for which all characters pass.
fn forth(text: &str, at: usize, passes: impl Fn(char) -> bool) -> usize {
    let after = text.get(at..).unwrap_or("");
    let mut end = at;
    for (place, c) in after.char_indices() {
        if !passes(c) || place > ADDRESS_BYTES_MAX {
            break;
        }
        end = at + place + c.len_utf8();
    }
    end
}

fn is_local(c: char) -> bool {
    c.is_alphanumeric() || "._%+-".contains(c)
}

fn is_host(c: char) -> bool {
    c.is_alphanumeric() || c == '.' || c == '-'
}

fn is_hex_group(c: char) -> bool {
    c.is_ascii_hexdigit() || c == ':'
}

fn trimmed(text: &str, start: usize, end: usize, drop: &str) -> usize {
    start
        + text
            .get(start..end)
            .unwrap_or("")
            .trim_end_matches(|c| drop.contains(c))
            .len()
}

/// `name@host.end`, or `@name`.
fn mail(text: &str, at: usize, width: usize) -> Option<(usize, usize, Class)> {
    let start = back(text, at, is_local);
    let end = trimmed(text, at + width, forth(text, at + width, is_host), ".-");
    let local = text.get(start..at)?;
    let host = text.get(at + width..end)?;
    if host.is_empty() {
        return None;
    }
    let has_letter = |part: &str| part.contains(|c: char| c.is_alphabetic());
    if !local.trim_matches('.').is_empty() {
        let is_address = has_letter(host) && (has_letter(local) || host.contains('.'));
        return is_address.then_some((start, end, Class::Email));
    }
    // An account: at least three characters that begin with a letter.
    let is_account =
        host.chars().next().is_some_and(char::is_alphabetic) && host.chars().count() >= 3;
    let end = forth(text, end, |c| c == '_' || c.is_alphanumeric());
    is_account.then_some((at, end, Class::Url))
}

/// `jane.doe[at]example.com`, `jane.doe(at)example[dot]com`.
fn bracketed_mail(text: &str, at: usize) -> Option<(usize, usize, Class)> {
    /// Most dots of a host that are written in brackets.
    const DOTS_MAX: usize = 4;
    let width = bracketed(text.get(at..)?, "at")?;
    // Blanks may stand around the brackets.
    let local_end = text.get(..at)?.trim_end_matches(' ').len();
    let start = back(text, local_end, is_local);
    let mut end = at + width;
    end += text.get(end..)?.len() - text.get(end..)?.trim_start_matches(' ').len();
    let host_start = end;
    end = forth(text, end, is_host);
    for _ in 0..DOTS_MAX {
        let rest = text.get(end..)?;
        let blanks = rest.len() - rest.trim_start_matches(' ').len();
        let Some(dot) = bracketed(rest.get(blanks..)?, "dot") else {
            break;
        };
        let after = end + blanks + dot;
        let more = text.get(after..)?;
        end = forth(
            text,
            after + more.len() - more.trim_start_matches(' ').len(),
            is_host,
        );
    }
    let end = trimmed(text, host_start, end, ".-");
    let host = text.get(host_start..end)?;
    let is_address = start < local_end
        && host.contains(|c: char| c.is_alphabetic())
        && host.contains(['.', '[', '(', '{']);
    is_address.then_some((start, end, Class::Email))
}

/// The length of a word in brackets that begins here: `[at]`, `( dot )`.
fn bracketed(text: &str, word: &str) -> Option<usize> {
    let inner = text.strip_prefix(['[', '(', '{'])?.trim_start_matches(' ');
    let behind = inner
        .get(..word.len())
        .filter(|it| it.eq_ignore_ascii_case(word))
        .and_then(|_| inner.get(word.len()..))?;
    let rest = behind
        .trim_start_matches(' ')
        .strip_prefix([']', ')', '}'])?;
    Some(text.len() - rest.len())
}

/// `scheme://…`, `mailto:…`.
fn web(text: &str, at: usize) -> Option<(usize, usize, Class)> {
    let start = back(text, at, |c| c.is_ascii_alphanumeric());
    let scheme = text.get(start..at)?.to_ascii_lowercase();
    let after = text.get(at + 1..)?;
    let is_address = (after.starts_with("//") && scheme.len() >= 3)
        || (matches!(scheme.as_str(), "mailto" | "tel" | "sip" | "urn")
            && !after.starts_with(char::is_whitespace));
    if !is_address {
        return None;
    }
    let end = forth(text, at, |c| {
        !c.is_whitespace() && !"<>\"'()[]{}".contains(c)
    });
    let end = trimmed(text, start, end, ".,;:!?");
    (end > at + 1).then_some((start, end, Class::Url))
}

/// `www.…`, and hosts with a known end.
fn host(text: &str, at: usize) -> Option<(usize, usize, Class)> {
    let start = back(text, at, is_host);
    let host_end = trimmed(text, start, forth(text, at, is_host), ".-");
    let host = text.get(start..host_end)?.to_ascii_lowercase();
    let (name, last) = host.rsplit_once('.')?;
    let begins_well = name.starts_with(|c: char| c.is_alphanumeric());
    let has_letters = name.contains(|c: char| c.is_alphabetic());
    let known = TOP_LEVEL.contains(&last) && has_letters && name.len() >= 2;
    if !begins_well || !(host.starts_with("www.") || known) {
        return None;
    }
    // A sentence that begins without a space, "at home.Us", is none.
    if matches!(
        last,
        "us" | "care"
            | "health"
            | "clinic"
            | "hospital"
            | "info"
            | "local"
            | "app"
            | "example"
            | "de"
    ) && text
        .get(start..host_end)?
        .contains(|c: char| c.is_uppercase())
    {
        return None;
    }
    let end = if text.get(host_end..)?.starts_with(['/', ':', '?', '#']) {
        forth(text, host_end, |c| {
            !c.is_whitespace() && !"<>\"'()[]{},;".contains(c)
        })
    } else {
        host_end
    };
    Some((start, trimmed(text, start, end, ".,;:!?"), Class::Url))
}

/// Four numbers of at most 255.
fn ipv4(text: &str, at: usize) -> Option<(usize, usize, Class)> {
    let is_part = |c: char| c.is_ascii_digit() || c == '.';
    let start = back(text, at, is_part);
    let end = trimmed(text, start, forth(text, at, is_part), ".");
    let parts: Vec<&str> = text.get(start..end)?.split('.').collect();
    let fits = |part: &&str| {
        (1..=3).contains(&part.len()) && part.parse::<u16>().is_ok_and(|it| it <= 255)
    };
    let outside = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
    let stands_alone =
        outside(text.get(..start)?.chars().next_back()) && outside(text.get(end..)?.chars().next());
    (parts.len() == 4 && parts.iter().all(fits) && stands_alone).then_some((start, end, Class::Ip))
}

/// Groups of hexadecimal digits between colons: network addresses of either kind.
fn ipv6(text: &str, at: usize) -> Option<(usize, usize, Class)> {
    let start = back(text, at, is_hex_group);
    let end = trimmed(text, start, forth(text, at, is_hex_group), ":");
    let whole = text.get(start..end)?;
    let groups: Vec<&str> = whole.split(':').collect();
    let outside = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
    if !outside(text.get(..start)?.chars().next_back())
        || !outside(text.get(end..)?.chars().next())
        || groups.iter().any(|group| group.len() > 4)
    {
        return None;
    }
    let full = groups.len() == 8 && groups.iter().all(|group| !group.is_empty());
    // "fe80::1"; a group of letters and digits, because "12::30" is a slip in a time.
    let is_hex = groups.iter().any(|group| {
        group.len() >= 3
            && group.contains(|c: char| c.is_ascii_alphabetic())
            && group.contains(|c: char| c.is_ascii_digit())
    });
    let short = whole.contains("::") && (groups.len() >= 4 || is_hex) && whole.len() >= 6;
    if full || short {
        return Some((start, end, Class::Ip));
    }
    let hardware = groups.len() == 6 && groups.iter().all(|group| group.len() == 2);
    hardware.then_some((start, end, Class::Device))
}

/// "anna dot lee at example dot com".
fn spelled_out(search: &mut Search<'_, '_>) -> Result<(), Spent> {
    const PARTS_MAX: usize = 6;
    let reading = search.reading;
    search.spend(reading.len())?;
    for at in 0..reading.len() {
        if !matches!(reading.fold(at), "com" | "org" | "net" | "edu" | "gov") {
            continue;
        }
        let is_joint = |at: usize| matches!(reading.fold(at), "dot" | "at" | "punto" | "arroba");
        let Some(dot) = at.checked_sub(1).filter(|dot| reading.fold(*dot) == "dot") else {
            continue;
        };
        let (mut from, mut saw_at) = (dot, false);
        for _ in 0..PARTS_MAX {
            let Some(word) = from.checked_sub(1) else {
                break;
            };
            if is_joint(word)
                || matches!(reading.kind(word), Some(super::reading::Kind::Mark(_)))
                    && !reading.is_any_mark(word, "[]()_-.")
            {
                break;
            }
            from = word;
            match from.checked_sub(1) {
                Some(joint) if is_joint(joint) => {
                    saw_at |= reading.fold(joint) == "at";
                    from = joint;
                }
                _ => break,
            }
        }
        if saw_at {
            search.take(from, at + 1, Class::Email, Basis::Pattern);
        }
    }
    Ok(())
}
