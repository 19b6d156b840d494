//! JSON Lines as real programs write them: encodings, line ends, compression, and what JSON cannot say.

mod support;

use std::io::Write as _;

use ama_data::{DataError, ReadOptions};
use support::{Folder, lines, open, prompt, prompts, refused};

#[test]
fn encodings_and_line_ends() {
    let text = lines(&["a", "\u{fc}\u{1f600}", "c"]);
    let utf16 = |big: bool| -> Vec<u8> {
        let units = std::iter::once(0xfeff).chain(text.encode_utf16());
        units.flat_map(|unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
    };
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let half = text.find('\n').unwrap() + 1;
    let folder = Folder::new();
    for (name, bytes) in [
        ("plain.jsonl", text.clone().into_bytes()),
        ("marked.jsonl", [b"\xef\xbb\xbf", text.as_bytes()].concat()),
        ("little.jsonl", utf16(false)),
        ("big.jsonl", utf16(true)),
        ("windows.jsonl", text.replace('\n', "\r\n").into_bytes()),
        ("mac.jsonl", text.replace('\n', "\r").into_bytes()),
        ("joined.jsonl", text.replace('\n', "\n\u{feff}").into_bytes()),
        ("blank.jsonl", format!("\n\n{}", text.replace('\n', "\n \n")).into_bytes()),
        ("no-end.jsonl", text.trim_end().as_bytes().to_vec()),
        ("a.jsonl.gz", gzip(&text)),
        ("members.jsonl.gz", [gzip(&text[..half]), gzip(&text[half..])].concat()),
        ("a.jsonl.zst", zstd::encode_all(text.as_bytes(), 1).unwrap()),
        ("named-plain.jsonl", gzip(&text)),
        ("named-gzip.jsonl.gz", text.clone().into_bytes()),
    ] {
        let file = folder.write(name, bytes);
        assert_eq!(prompts(&file, &ReadOptions::default()), ["a", "\u{fc}\u{1f600}", "c"], "{name}");
        let rows: Vec<u64> =
            open(&file, &ReadOptions::default()).unwrap().map(|row| row.unwrap().row).collect();
        assert_eq!(rows, [1, 2, 3], "{name}");
    }
}

#[test]
fn what_is_no_text_is_named() {
    let folder = Folder::new();
    let text = lines(&["a", "b"]);
    let read = ReadOptions::default();
    let latin = text.replace("\"b\"", "\"\u{0}\"").into_bytes();
    let latin: Vec<u8> = latin.into_iter().map(|byte| if byte == 0 { 0xe9 } else { byte }).collect();
    refused(&folder.write("latin.jsonl", latin), &read, &["latin.jsonl", "row 2", "UTF-8"]);
    let bare: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    refused(&folder.write("bare.jsonl", bare), &read, &["bare.jsonl", "UTF-16 without a byte order mark"]);
    for start in [" ", "\n", "  "] {
        let text = start.to_owned() + &text;
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for bytes in [little, big] {
            refused(&folder.write("bare.jsonl", bytes), &read, &["UTF-16 without a byte order mark"]);
        }
    }
    for (magic, name) in
        [(&b"BZh91AY&SY1"[..], "bzip2"), (b"\xfd7zXZ\0\0\x04", "xz"), (b"PK\x03\x04\x14\0", "zip")]
    {
        let error = refused(
            &folder.write("packed.jsonl", magic),
            &read,
            &["packed.jsonl", name, "decompress it first"],
        );
        assert!(matches!(error, DataError::Compressed { .. }));
    }
    for ending in ["bz2", "xz", "zip"] {
        refused(&folder.write(&format!("p.jsonl.{ending}"), ""), &read, &["decompress it first"]);
    }
    let wide: Vec<u8> =
        [0xfeff].into_iter().chain(text.chars().map(u32::from)).flat_map(u32::to_le_bytes).collect();
    refused(&folder.write("wide.jsonl", wide), &read, &["wide.jsonl", "UTF-32"]);
    let mut cut: Vec<u8> =
        std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    cut.pop();
    refused(&folder.write("cut.jsonl", cut), &read, &["cut.jsonl", "UTF-16", "middle of a character"]);
    let packed = zstd::encode_all(lines(&["a"; 400]).as_bytes(), 1).unwrap();
    let file = folder.write("cut.jsonl.zst", &packed[..packed.len() - 9]);
    refused(&file, &read, &["cut.jsonl.zst", "Zstandard", "truncated"]);
}

#[test]
fn cells_that_are_not_used_do_not_matter() {
    let folder = Folder::new();
    let row = |extra: &str| format!("{{\"prompt\": \"p\", \"chosen\": \"a\", \"rejected\": \"b\"{extra}}}\n");
    let odd = [
        ", \"margin\": NaN",
        ", \"meta\": {\"score\": -Infinity, \"rest\": [NaN, \"NaN\"]}",
        ", \"note\": \"cut \\ud83d\"",
        ", \"big\": 1e999",
        "",
    ];
    let file = folder.write("odd.jsonl", odd.map(row).concat());
    assert_eq!(prompts(&file, &ReadOptions::default()).len(), 5);
    let read = ReadOptions::default();
    for (cell, wants) in
        [("NaN", ["row 2", "`chosen`", "NaN"]), ("\"\\ude00\"", ["row 2", "`chosen`", "surrogate"])]
    {
        let bad = format!("{{\"prompt\": \"p\", \"chosen\": {cell}, \"rejected\": \"b\"}}\n");
        let file = folder.write("bad.jsonl", row("") + &bad + &row(""));
        refused(&file, &read, &wants);
        // The rows around it are read.
        assert_eq!(open(&file, &read).unwrap().filter(Result::is_ok).count(), 2);
    }
    let twice = folder.write("twice.jsonl", row(", \"chosen\": \"c\""));
    refused(&twice, &read, &["row 1", "`chosen`", "more than once"]);
}

#[test]
fn rows_that_are_no_json_have_their_numbers() {
    let folder = Folder::new();
    let read = ReadOptions::default();
    let good = lines(&["a"]);
    let file = folder.write("cut.jsonl", format!("{good}\n{good}{{\"prompt\": \"p\", \"cho"));
    refused(&file, &read, &["cut.jsonl", "row 3 (line 4)", "EOF", "breaks off after 20 characters"]);
    let rows: Vec<_> = open(&file, &read).unwrap().collect();
    assert_eq!((rows.len(), rows.iter().filter(|row| row.is_ok()).count()), (3, 2));
    // A bad first row is one bad row, not a bad file.
    let file = folder.write("first.jsonl", format!("oops\n{good}"));
    let rows: Vec<_> = open(&file, &read).unwrap().collect();
    assert!(matches!(rows[0], Err(DataError::Json { row: 1, .. })) && rows.len() == 2);
    refused(
        &folder.write("array.json", format!("\n [{},\n{}]", good.trim(), good.trim())),
        &read,
        &["one JSON array", "jq"],
    );
    // The remedy works on the file as it is packed.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"[{}]").unwrap();
    let marked: Vec<u8> = "\u{feff}[{}]".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (name, bytes, want) in [
        ("a.json.gz", gzip.finish().unwrap(), "`gzip -dc < "),
        ("a.json.zst", zstd::encode_all(&b"[{}]"[..], 1).unwrap(), "`zstd -dc < "),
        ("wide.json", marked, "`iconv -f UTF-16 -t UTF-8 "),
    ] {
        refused(&folder.write(name, bytes), &read, &["one JSON array", want, "| jq -c"]);
    }
    // Not the NaN before it.
    let file = folder.write("nan.jsonl", "{\"x\": NaN, \"y\": nul}");
    refused(&file, &read, &["row 1", "expected ident at character 20"]);
    let file = folder.write("nan.jsonl", "{\"x\": -Infinity, \"y\":");
    refused(&file, &read, &["row 1", "EOF", "breaks off after 21 characters"]);
    refused(&folder.write("python.jsonl", "{'prompt': 'p'}"), &read, &["row 1", "character 2", "'prompt'"]);
}

/// Columns are those of all rows; the one that lacks a cell is refused by its number.
#[test]
fn a_first_row_that_lacks_a_column() {
    let folder = Folder::new();
    let read = ReadOptions::default();
    let short = "{\"chosen\": \"The sky is blue\", \"rejected\": \"The sky is green\"}\n";
    let file = folder.write("rows.jsonl", short.to_owned() + &lines(&["a", "b"]));
    refused(&file, &read, &["row 1", "`prompt`", "null or missing"]);
    let rows = open(&file, &read).unwrap().filter_map(Result::ok).map(prompt);
    assert_eq!(rows.collect::<Vec<_>>(), ["a", "b"]);
    // So with answers that are to be checked, wherever they come first.
    let checked = "{\"prompt\": \"p\", \"chosen\": \"c\", \"rejected\": \"r\", \"verifier\": \"sum\", \"gold\": \"1\"}\n";
    let file = folder.write("late.jsonl", lines(&["a", "b"]) + checked);
    let checks: Vec<bool> = open(&file, &read).unwrap().map(|row| row.unwrap().check.is_some()).collect();
    assert_eq!(checks, [false, false, true]);
}
