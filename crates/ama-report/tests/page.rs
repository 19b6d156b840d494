//! The page of a small real run: what it says, that it is sound HTML, and that nothing from data gets out of hand.

mod common;

use std::collections::BTreeSet;
use std::fs;

use ama_report::{PageOptions, Reading, ReportError, Run, State, page};
use common::{copy, count, edit, files, fixture, page_of, text, well_formed};
use scraper::Selector;

#[test]
fn says_what_came_out() {
    let (run, _, html) = page_of(&fixture());
    assert_eq!((run.state, &run.notes[..]), (State::Finished, &[][..]));
    // By hand from results.json: the worst tasks' win rates by seed are 73.0, 64.0, 64.7 and 46.3, 43.0, 43.3.
    let verdict = text(&html, ".verdict");
    assert_eq!(
        verdict,
        "AMA-S lifts the worst task from 44% to 67% verified win rate over pooled (+23.0 points, 95% interval +21.0 to +26.7, \
         3 seeds); the average goes from 74% to 77% (+3.2 points)."
    );
    assert_eq!(text(&html, ".beside"), "The price: on harmless AMA-S falls from 100% to 69% (−31.1 points).");
    // One row each for base, specialists, pooled, ama-s; worst, average and three tasks.
    assert_eq!(count(&html, "#run0-results > .scroll:first-of-type .estimates tbody tr"), 4);
    assert_eq!(
        text(&html, "#run0-results tbody tr:nth-child(4)"),
        "AMA-S 67.2 [64.0, 73.0] 77.4 [75.7, 80.2] 74.4 [73.0, 75.7] 68.9 [64.0, 78.0] 88.9 [88.3, 89.7]"
    );
    for section in ["mixture", "loss", "excess", "health", "stage1", "cost", "config", "continue"] {
        assert_eq!(count(&html, &format!("#run0-{section} h2")), 1, "{section}");
    }
    assert_eq!(count(&html, "#run0-mixture .grid figure"), 2, "one picture a method");
    assert_eq!(count(&html, "#run0-loss figure"), 3, "one picture a task");
    assert!(text(&html, "#run0-continue pre").starts_with("ama run "));
    assert!(text(&html, "#run0-cost").contains("230 MiB"));
    assert_eq!(count(&html, "meta[http-equiv=refresh]"), 0, "a page that will not change does not reload");
}

#[test]
fn every_picture_is_described_and_has_its_table() {
    let (_, source, html) = page_of(&fixture());
    let select = |selector: &str| Selector::parse(selector).unwrap();
    let mut ids = BTreeSet::new();
    for element in html.select(&select("[id]")) {
        assert!(ids.insert(element.attr("id").unwrap()), "two elements are called {:?}", element.attr("id"));
    }
    let pictures: Vec<_> = html.select(&select("svg")).collect();
    assert!(pictures.len() >= 15, "{}", pictures.len());
    for svg in &pictures {
        assert_eq!(svg.attr("role"), Some("img"));
        for (id, name) in svg.attr("aria-labelledby").unwrap().split(' ').zip(["title", "desc"]) {
            let labels: Vec<_> = svg.select(&select(name)).collect();
            assert_eq!(labels.len(), 1);
            assert_eq!(labels[0].attr("id"), Some(id));
            assert!(!labels[0].text().collect::<String>().trim().is_empty());
        }
        // Its colours are all known to the style sheet, or dark paper would show those of light paper.
        for part in svg.select(&select("[fill], [stroke]")) {
            for colour in
                ["fill", "stroke"].iter().filter_map(|name| part.attr(name)).filter(|c| c.starts_with('#'))
            {
                let known = source.contains(&format!("[fill=\"{colour}\"]"))
                    || source.contains(&format!("[stroke=\"{colour}\"]"));
                assert!(known || (part.value().name() == "text" && colour == "#333333"), "{colour}");
            }
        }
    }
    let with_table = html
        .select(&select("figure"))
        .filter(|figure| figure.select(&select("details table tbody tr")).next().is_some())
        .count();
    assert_eq!(with_table, pictures.len());
    for link in html.select(&select("a[href]")) {
        let target = link.attr("href").unwrap().strip_prefix('#').expect("links stay on the page");
        assert!(ids.contains(target), "a link to nowhere: {target}");
    }
}

/// Names that are markup, in every place where a name can stand.
#[test]
fn markup_in_names_stays_text() {
    const EVIL: &str = r#"<script>alert(1)<\/script>\"'&amp;<img src=x onerror=alert(2)>"#;
    let spelled = r#"<script>alert(1)</script>"'&amp;<img src=x onerror=alert(2)>"#;
    let (_folder, run) = copy();
    for path in files(&run) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with(".json") || name.ends_with(".jsonl") {
            let text = fs::read_to_string(&path).unwrap();
            fs::write(
                &path,
                text.replace("\"helpful\"", &format!("\"{EVIL}\""))
                    .replace("\"Intel", "\"</dd><script>Intel"),
            )
            .unwrap();
        }
    }
    edit(
        &run.join("config.resolved.toml"),
        "name = \"helpful\"",
        r#"name = '''<script>alert(1)</script>"'&amp;<img src=x onerror=alert(2)>'''"#,
    );
    // A method may have any name that a folder can have.
    let method = "<svg onload=alert(3)>\"'";
    fs::rename(run.join("generalists/ama-s"), run.join("generalists").join(method)).unwrap();
    edit(&run.join("results.json"), "\"ama-s\"", r#""<svg onload=alert(3)>\"'""#);
    edit(&run.join("run.json"), "\"ama-s\":{", r#""<svg onload=alert(3)>\"'":{"#);

    let (plain, source, html) = page_of(&run);
    assert!(plain.notes.is_empty(), "{:?}", plain.notes);
    assert!(plain.tasks().contains(&spelled.to_string()));
    assert!(!source.contains("<script") && !source.contains("<img") && !source.contains("<svg onload"));
    let shown = text(&html, "body");
    assert!(shown.contains(spelled), "the name is there, as text");
    assert!(text(&html, ".verdict").starts_with(&format!("{method} lifts the worst task")));
    assert!(text(&html, "#run0-mixture svg").contains("<script>alert"), "in pictures too");
    // The page is made of the same elements as with plain names; only the specialist's own curves went with its name.
    assert_eq!(count(&html, "svg"), count(&page_of(&fixture()).2, "svg"));
}

#[test]
fn a_run_in_progress_says_so_and_reloads() {
    let (_folder, run) = copy();
    fs::remove_file(run.join("results.json")).unwrap();
    fs::remove_file(run.join("generalists/ama-s/seed-2/stage.json")).unwrap();
    let lock = fs::File::create(run.join(".lock")).unwrap();
    lock.lock().unwrap();
    let (read, _, html) = page_of(&run);
    assert_eq!(read.state, State::Running);
    assert_eq!(count(&html, "meta[http-equiv=refresh][content='15']"), 1);
    assert!(text(&html, ".verdict").starts_with("Running: 9 of 10 models are trained, about "));
    // Eight steps had 20,214 tokens of the 96,000 that the configuration asks for.
    assert_eq!(text(&html, ".underway tbody"), "generalists/ama-s/seed-2 step 8, 21%, about 0.9 s left");
    let silent = page(std::slice::from_ref(&read), PageOptions::default()).unwrap();
    assert_eq!(
        count(&well_formed(&silent), "meta[http-equiv=refresh]"),
        0,
        "nobody brings this page up to date"
    );
    assert_eq!(read.released().state, State::Stopped);
    drop(lock);
    let (read, _, html) = page_of(&run);
    assert_eq!(read.state, State::Stopped);
    assert_eq!(count(&html, "meta[http-equiv=refresh]"), 0);
    assert!(text(&html, ".verdict").starts_with("Not finished: 9 of 10 models are trained"));
}

/// Each file in turn is missing, cut in half, or nonsense: there is a page that says what is missing, and never a panic.
#[test]
fn any_file_may_be_missing_or_damaged() {
    let names: Vec<_> =
        files(&fixture()).iter().map(|path| path.strip_prefix(fixture()).unwrap().to_path_buf()).collect();
    assert!(names.len() > 50);
    let (_folder, run) = copy();
    for name in &names {
        let path = run.join(name);
        let whole = fs::read(&path).unwrap();
        for damage in [None, Some(whole[..whole.len() / 2].to_vec()), Some(b"\xff{]not this".to_vec())] {
            match &damage {
                None => fs::remove_file(&path).unwrap(),
                Some(bytes) => fs::write(&path, bytes).unwrap(),
            }
            let (read, _, html) = page_of(&run);
            let says_it =
                name.ends_with("results.json") || name.ends_with("run.json") || name.ends_with("stage.json");
            if damage.is_some() && says_it {
                let file = name.file_name().unwrap().to_string_lossy();
                assert!(text(&html, ".notes").contains(&*file), "{}: {:?}", name.display(), read.notes);
            }
        }
        fs::write(&path, whole).unwrap();
    }
    assert!(page_of(&run).0.notes.is_empty(), "all is as it was");
}

#[test]
fn an_empty_run_has_a_page_and_other_folders_have_an_error_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &std::path::Path| Run::read(path, Reading::Whole).unwrap_err();
    // A folder of another kind that happens to have one of our names.
    fs::create_dir_all(folder.path().join("base/final")).unwrap();
    let error = refused(folder.path());
    assert!(matches!(error, ReportError::NotARun { .. }));
    assert!(error.to_string().contains("want the folder that `ama run --out` was given"));
    assert!(matches!(refused(&folder.path().join("nowhere")), ReportError::NoFolder { .. }));
    fs::write(folder.path().join("run.json"), r#"{"format": "another tool 3"}"#).unwrap();
    assert!(matches!(refused(folder.path()), ReportError::NotARun { .. }));
    assert!(matches!(page(&[], PageOptions::default()), Err(ReportError::NoRuns)));

    fs::write(folder.path().join("run.json"), r#"{"format": "ama-run 2", "novel": [1, {"x": null}]}"#)
        .unwrap();
    let (run, _, html) = page_of(folder.path());
    assert_eq!(run.state, State::Stopped);
    assert!(text(&html, ".notes").contains("another version of ama"));
    assert_eq!(count(&html, "svg"), 0);
}

#[test]
fn unknown_fields_and_stages_are_no_obstacle() {
    let (_folder, run) = copy();
    edit(&run.join("results.json"), "\"baseline\":", "\"novel\":{\"a\":[1]},\"baseline\":");
    edit(&run.join("results.json"), "\"accuracy\":", "\"calibration\":0.5,\"accuracy\":");
    edit(
        &run.join("generalists/ama-s/seed-0/metrics.jsonl"),
        "\"step\":",
        "\"novel\":{\"x\":null},\"step\":",
    );
    fs::create_dir_all(run.join("merges/ties")).unwrap();
    fs::create_dir_all(run.join("generalists/ties/merged")).unwrap();
    fs::write(run.join("generalists/ties/merged/stage.json"), r#"{"seconds": 1.5, "format": 7}"#).unwrap();
    let (read, _, html) = page_of(&run);
    assert_eq!(read.state, State::Finished);
    assert!(read.notes.is_empty(), "{:?}", read.notes);
    assert!(text(&html, "#run0-cost").contains("Generalist: ties"));
}

#[test]
fn several_runs_stand_side_by_side() {
    let (_folder, other) = copy();
    edit(&other.join("config.resolved.toml"), "tokens = 96000", "tokens = 48000");
    fs::remove_file(other.join("results.json")).unwrap();
    let runs: Vec<Run> = [&fixture(), &other, &fixture()]
        .iter()
        .map(|folder| Run::read(folder, Reading::Whole).unwrap())
        .collect();
    let html = well_formed(&page(&runs, PageOptions::default()).unwrap());
    assert_eq!(count(&html, "article"), 3);
    assert_eq!(count(&html, ".verdicts li"), 3);
    // Two methods of each run with results, and one line for the run without.
    assert_eq!(count(&html, ".compared > .scroll tbody tr"), 5);
    let settings = text(&html, ".compared .left tbody");
    assert_eq!(settings, "generalist.tokens 96000 48000 96000");
    assert_eq!(count(&html, ".compared .left tbody tr"), 1, "what is the same everywhere is not shown");
}
