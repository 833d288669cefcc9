//! Turns events into bars, plain lines or JSON lines.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressStyle};
use sandbox_core::report::{Event, Phase, Reporter, Unit};

use crate::{
    settings::{Display, Settings},
    timings::Timings,
    ui,
};

/// A reporter for a terminal, a log or a program.
pub struct Progress {
    display: Display,
    bars: MultiProgress,
    open: Mutex<BTreeMap<&'static str, ProgressBar>>,
    timings: Option<Timings>,
}

impl Progress {
    /// Makes a reporter for a way of showing things.
    pub fn new(settings: &Settings) -> Self {
        Self {
            display: settings.display,
            bars: MultiProgress::new(),
            open: Mutex::new(BTreeMap::new()),
            timings: settings.timings.clone(),
        }
    }

    fn bar(&self, event: &Event) {
        let mut open = self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match event {
            Event::Started { phase, unit, total } => {
                let bar = self.bars.add(ProgressBar::new(*total));
                bar.set_style(style(*unit, *total));
                bar.set_prefix(word(*phase));
                bar.enable_steady_tick(Duration::from_millis(120));
                if let Some(old) = open.insert(word(*phase), bar) {
                    old.finish_and_clear();
                }
            }
            Event::Advanced { phase, delta } => {
                if let Some(bar) = open.get(word(*phase)) {
                    bar.inc(*delta);
                }
            }
            Event::At { phase, subject } => {
                if let Some(bar) = open.get(word(*phase)) {
                    bar.set_message(ui::word(subject));
                }
            }
            Event::Finished { phase, .. } => {
                if let Some(bar) = open.remove(word(*phase)) {
                    bar.finish_and_clear();
                }
                self.line(event);
            }
            Event::Part { .. } => {}
            Event::Notice { .. } | Event::Warning { .. } => self.line(event),
        }
    }

    fn line(&self, event: &Event) {
        let (label, text) = match event {
            Event::Finished { phase, elapsed, summary } => {
                (word(*phase), format!("{summary} in {}", seconds(*elapsed)))
            }
            Event::Notice { text } => ("note", text.clone()),
            Event::Warning { text } => ("warning", text.clone()),
            _ => return,
        };
        self.bars.suspend(|| ui::remark(label, &text));
    }
}

impl Reporter for Progress {
    fn report(&self, event: Event) {
        if let Some(timings) = &self.timings {
            timings.note(&event);
        }
        match self.display {
            Display::Bars => self.bar(&event),
            Display::Lines => self.line(&event),
            Display::Quiet => {
                if matches!(event, Event::Warning { .. }) {
                    self.line(&event);
                }
            }
            Display::Json => {
                if let Ok(line) = serde_json::to_string(&event) {
                    ui::line(&line);
                }
            }
        }
    }
}

fn seconds(elapsed: Duration) -> String {
    if elapsed < Duration::from_secs(60) {
        format!("{:.1} s", elapsed.as_secs_f64())
    } else {
        HumanDuration(elapsed).to_string()
    }
}

pub const fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Archive => "archive",
        Phase::Resolve => "resolve",
        Phase::Fetch => "fetch",
        Phase::Unpack => "unpack",
        Phase::Configure => "configure",
        Phase::Customize => "customize",
        Phase::Layers => "layers",
        Phase::Finish => "finish",
        Phase::Pack => "pack",
        Phase::Define => "define",
        Phase::Boot => "boot",
    }
}

fn style(unit: Unit, total: u64) -> ProgressStyle {
    let template = match (unit, total) {
        (_, 0) => "{prefix:>12}  {spinner} {wide_msg}",
        (Unit::Bytes, _) => {
            "{prefix:>12}  [{bar:28}] {bytes}/{total_bytes} {binary_bytes_per_sec} {wide_msg}"
        }
        _ => "{prefix:>12}  [{bar:28}] {pos}/{len} {wide_msg}",
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}
