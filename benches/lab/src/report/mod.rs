//! What people read of a run.
//!
//! | room | what it makes |
//! | --- | --- |
//! | [`figures`] | what all of them say of a row: spreads, order, units |
//! | [`table`] | tables for a terminal and for Markdown |
//! | [`html`] | a page with charts |
//! | [`hgrm`] | percentiles for HdrHistogram's plotter |
//! | [`baseline`] | a run beside an earlier one |
//!
//! All of them show losers as they show winners: who failed keeps a line, with the reason in words.

pub mod baseline;
pub mod figures;
pub mod hgrm;
pub mod html;
pub mod table;
