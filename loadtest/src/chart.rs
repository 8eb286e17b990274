//! The chart: one bar per contender, CPU microseconds per request, with the range over the rounds.

use std::fmt::Write as _;

use crate::contenders::Contender;
use crate::report::Report;
use crate::rounds::Spread;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 90.0;
const TOP: f64 = 54.0;
const ROW: f64 = 34.0;
const BAR: f64 = 20.0;

pub(crate) fn draw(report: &Report) -> String {
    let rows: Vec<(Contender, &str, Spread)> = report
        .results
        .iter()
        .filter_map(|row| Some((row.tally.contender, row.tally.label, row.cpu_us_per_request?)))
        .collect();
    let longest = rows.iter().map(|(_, _, spread)| spread.max).fold(1.0, f64::max);
    let scale = (WIDTH - LEFT - RIGHT) / longest;
    let height = TOP + ROW * rows.len() as f64 + 56.0;

    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif" font-size="13" role="img">
<title>CPU microseconds per proxied request</title>
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="16" y="30" font-size="17" font-weight="600" fill="#1f2933">CPU microseconds per proxied request, lower is better</text>
"##
    );
    for (index, (contender, label, Spread { median, min, max })) in rows.iter().enumerate() {
        let y = TOP + ROW * index as f64;
        let (middle, end) = (y + BAR / 2.0, LEFT + median * scale);
        let (low, high) = (LEFT + min * scale, LEFT + max * scale);
        let fill = match contender {
            Contender::Portcullis | Contender::PortcullisRecords => "#0b6e4f",
            Contender::Floor | Contender::HyperRelay => "#c3ccd5",
            Contender::Envoy
            | Contender::Haproxy
            | Contender::Nginx
            | Contender::NginxLog
            | Contender::Pingora => "#7b8794",
        };
        let _ = writeln!(
            svg,
            r##"<text x="{}" y="{}" text-anchor="end" fill="#1f2933">{label}</text>
<rect x="{LEFT}" y="{y:.1}" width="{:.1}" height="{BAR}" rx="2" fill="{fill}"/>
<path d="M{low:.1} {middle:.1}H{high:.1}M{low:.1} {:.1}v8M{high:.1} {:.1}v8" stroke="#1f2933" fill="none"/>
<text x="{:.1}" y="{}" fill="#1f2933">{median:.1}</text>"##,
            LEFT - 10.0,
            middle + 4.5,
            end - LEFT,
            middle - 4.0,
            middle - 4.0,
            high.max(end) + 8.0,
            middle + 4.5,
        );
    }
    for (line, text) in [report.setting_line(), report.caption()].iter().enumerate() {
        let _ = writeln!(
            svg,
            r##"<text x="16" y="{}" font-size="11" fill="#52606d">{text}</text>"##,
            height - 30.0 + 16.0 * line as f64,
        );
    }
    svg + "</svg>\n"
}
