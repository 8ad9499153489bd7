use clawgate_agent::{Answer, Api, Delta, Stop, read_answer};
use clawgate_core::turn::Failure;

/// Bytes that an answer may have here: few, so that the bound is met.
const BYTES_MAX: usize = 2_000;

/// The word of a protocol and, from the second line on, what a provider answers (every protocol where
/// there is no such word): the outcome is the same wherever the transfer is cut, a reader who is told
/// of each part reads the answer, and it keeps to its bound.
///
/// # Panics
/// When one of these does not hold.
pub fn stream(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n');
    let named = end.and_then(|end| {
        let word = std::str::from_utf8(&data[..end]).ok()?;
        Some((Api::parse(word)?, &data[end + 1..]))
    });
    match named {
        Some((api, stream)) => is_read(api, stream),
        None => Api::ALL.into_iter().for_each(|api| is_read(api, data)),
    }
}

fn is_read(api: Api, stream: &[u8]) {
    let whole = read(api, std::iter::once(stream));
    for size in [1, 5, 64] {
        assert_eq!(read(api, stream.chunks(size)), whole, "{api:?} by {size}");
    }
    if let Ok(answer) = whole {
        let weight = answer.text.len() + answer.thinking.as_ref().map_or(0, String::len);
        assert!(weight <= BYTES_MAX, "{weight} bytes");
        assert!(answer.stop != Stop::Tools || !answer.calls.is_empty());
        assert!(answer.calls.iter().all(|call| !call.name.is_empty()));
        let mut total = answer.usage;
        total.add(answer.usage);
        assert!(total.total() >= answer.usage.total());
    }
}

fn read<'a>(api: Api, parts: impl Iterator<Item = &'a [u8]>) -> Result<Answer, Failure> {
    let (mut text, mut thinking) = (String::new(), String::new());
    let mut told = |delta: Delta<'_>| match delta {
        Delta::Text(more) => text.push_str(more),
        Delta::Thinking(more) => thinking.push_str(more),
    };
    let mut answer = read_answer(api, parts, BYTES_MAX, &mut told)?;
    assert_eq!(answer.text, text, "told in parts");
    assert_eq!(answer.thinking.as_deref().unwrap_or_default(), thinking);
    for call in &mut answer.calls {
        // A call that came without an id has been given one, another one each time.
        if call.id.starts_with("call_") {
            call.id.clear();
        }
    }
    Ok(answer)
}
