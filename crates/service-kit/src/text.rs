//! Text that people read: what is in it can be seen, and leaves the text around it alone.
//!
//! Unicode calls characters that are not shown default-ignorable. Among them are some that scripts and emoji need between
//! others, which is where they are allowed; the rest only make two names look the same, or, as the bidirectional
//! controls do, turn what follows around.

use unicode_properties::{GeneralCategory, UnicodeEmoji, UnicodeGeneralCategory};

/// Zero-width non-joiner and joiner.
const NON_JOINER: char = '\u{200c}';
const JOINER: char = '\u{200d}';
/// The emoji that tags may follow, which make a region's flag of it, and the tag that ends them.
const BLACK_FLAG: char = '\u{1f3f4}';
const END_OF_TAGS: char = '\u{e007f}';

/// Can some of it be seen, and is nothing in it that cannot?
pub(crate) fn is_visible(text: &str) -> bool {
    if text.is_ascii() {
        return text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
            && text.bytes().any(|byte| byte.is_ascii_graphic());
    }
    let mut is_any_shown = false;
    let mut before = None;
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        let is_allowed = match character {
            JOINER | NON_JOINER => joins(before, character, rest.clone().next()),
            _ if is_ignorable(character) => varies(before, character),
            _ => is_text(character),
        };
        if !is_allowed {
            return false;
        }
        if character == BLACK_FLAG && !skip_tags(&mut rest) {
            return false;
        }
        is_any_shown = is_any_shown || is_shown(character);
        // A joiner follows an emoji also where that is followed by a selector.
        if !matches!(character, '\u{fe00}'..='\u{fe0f}') {
            before = Some(character);
        }
    }
    is_any_shown
}

/// Is it neither a control nor none of Unicode's characters?
fn is_text(character: char) -> bool {
    match character.general_category() {
        GeneralCategory::Control
        | GeneralCategory::LineSeparator
        | GeneralCategory::ParagraphSeparator => false,
        // Annotations, which are not shown as text; other format characters are, such as Arabic's signs.
        _ if matches!(character, '\u{fff9}'..='\u{fffb}') => false,
        // Later versions of Unicode have more characters, but never these.
        GeneralCategory::Unassigned => {
            u32::from(character) & 0xfffe != 0xfffe && !matches!(character, '\u{fdd0}'..='\u{fdef}')
        }
        _ => true,
    }
}

/// Is it more than room?
fn is_shown(character: char) -> bool {
    const BLANK_BRAILLE: char = '\u{2800}';
    let is_room = character.is_whitespace() || character == BLANK_BRAILLE;
    !is_room && !is_ignorable(character)
}

/// Unicode's `Default_Ignorable_Code_Point`.
fn is_ignorable(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// Does a joiner here do something? In scripts whose letters join, and the joiner between two emoji.
fn joins(before: Option<char>, joiner: char, after: Option<char>) -> bool {
    let is_emoji = |character: char| !character.is_ascii() && character.is_emoji_char();
    let Some(before) = before else { return false };
    is_of_joining_script(before)
        || (joiner == JOINER && is_emoji(before) && after.is_some_and(is_emoji))
}

/// Arabic and its neighbours, the Indic scripts, Mongolian, and later blocks of the same kind.
fn is_of_joining_script(character: char) -> bool {
    matches!(character,
        '\u{620}'..='\u{109f}' | '\u{1780}'..='\u{17b3}' | '\u{17b6}'..='\u{17ff}' | '\u{1820}'..='\u{18af}'
        | '\u{1900}'..='\u{1cff}' | '\u{a800}'..='\u{abff}' | '\u{fb50}'..='\u{fdcf}' | '\u{fe70}'..='\u{fefc}'
        | '\u{10a00}'..='\u{11fff}' | '\u{1e900}'..='\u{1e95f}')
}

/// Does a selector of variations here stand behind what has some?
fn varies(before: Option<char>, selector: char) -> bool {
    let Some(before) = before else { return false };
    match selector {
        '\u{fe00}'..='\u{fe0f}' => {
            before.is_emoji_char() || (!before.is_ascii() && is_shown(before))
        }
        '\u{180b}'..='\u{180f}' => matches!(before, '\u{1820}'..='\u{18af}'),
        '\u{e0100}'..='\u{e01ef}' => matches!(before,
            '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3fffd}'),
        _ => false,
    }
}

/// Skips the tags behind a black flag; false when they do not end.
fn skip_tags(rest: &mut std::str::Chars) -> bool {
    let mut tags = rest.clone();
    let mut count = 0;
    loop {
        match tags.next() {
            Some('\u{e0030}'..='\u{e0039}' | '\u{e0061}'..='\u{e007a}') => count += 1,
            Some(END_OF_TAGS) if count > 0 => {
                *rest = tags;
                return true;
            }
            _ => return count == 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_ascii_allows_is_what_all_allow() {
        for text in ["a", " ", "a b", "a\tb", "\u{7f}", "a\0", "~"] {
            // With something that is always allowed behind it, the ASCII takes the other way.
            let shown = text.chars().any(|character| character.is_ascii_graphic());
            assert_eq!(is_visible(text), shown && is_visible(&format!("{text}\u{e9}")), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_visible_text_holds_no_bidirectional_control_and_nothing_without_width_alone(text in "\\PC{0,30}|[\u{200b}-\u{200f}\u{202a}-\u{202e}\u{2060}-\u{206f}\u{fe00}-\u{fe0f}a ]{0,6}") {
            if is_visible(&text) {
                let is_never_text = |character| {
                    matches!(character, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
                };
                prop_assert!(!text.contains(is_never_text), "{:?}", text);
                prop_assert!(text.chars().any(is_shown), "{:?}", text);
                // A joiner does nothing at the begin, nor behind another.
                let twice = [JOINER, JOINER].iter().collect::<String>();
                prop_assert!(!text.starts_with([JOINER, NON_JOINER]));
                prop_assert!(!text.contains(&twice));
            }
        }

        #[test]
        fn letters_of_any_script_are_text(text in "\\p{L}{1,20}") {
            prop_assume!(!text.chars().any(is_ignorable)); // the fillers of Hangul
            prop_assert!(is_visible(&text), "{:?}", text);
        }
    }
}
