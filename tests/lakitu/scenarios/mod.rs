//! What Lakitu does, told as stories.

mod main_job;
