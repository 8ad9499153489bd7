use clawgate_agent::tools::patched;

/// Two texts with a line of five equal signs between them. The second as a patch of the first: it fits
/// or does not, and the file ends as it ended. The second as what becomes of the first: a patch that
/// says so makes it so.
///
/// # Panics
/// When one of these does not hold.
pub fn patch(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Some((old, new)) = text.split_once("\n=====\n") else {
        return;
    };
    if let Ok(after) = patched(old, new) {
        let may_lack_its_end = after.is_empty() || !(old.is_empty() || old.ends_with('\n'));
        assert!(
            may_lack_its_end || after.ends_with('\n'),
            "the last line lost its end"
        );
    }
    if old.contains('\r') || new.contains('\r') || (old.is_empty() && new.is_empty()) {
        return;
    }
    let lines = |mark: char, text: &str| -> String {
        text.lines().map(|line| format!("{mark}{line}\n")).collect()
    };
    let patch = format!(
        "*** Begin Patch\n*** Update File: a\n@@\n{}{}*** End Patch",
        lines('-', old),
        lines('+', new)
    );
    let mut wanted = new.lines().collect::<Vec<_>>().join("\n");
    if (old.is_empty() || old.ends_with('\n')) && !wanted.is_empty() {
        wanted.push('\n');
    }
    assert_eq!(patched(old, &patch).as_ref(), Ok(&wanted), "{patch}");
}
