//! How much work a text may cost, counted in bytes and steps rather than time, so that the same text
//! always ends the same way. Start at [`Budget`].

/// Most that one text may cost. Beyond it the text is withheld, never partly passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Longest text, in bytes.
    pub bytes_max: usize,
    /// Most steps; a step looks at one word, once, for one rule.
    pub steps_max: u64,
}

impl Default for Budget {
    /// Room for a discharge summary of some two hundred pages.
    fn default() -> Self {
        Self {
            bytes_max: 1 << 20,
            steps_max: 40_000_000,
        }
    }
}

/// The budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spent;

/// Counts steps down.
#[derive(Debug)]
pub(crate) struct Meter {
    left: u64,
}

impl Meter {
    pub(crate) fn new(budget: Budget) -> Self {
        Self {
            left: budget.steps_max,
        }
    }

    /// Takes steps from what is left.
    pub(crate) fn spend(&mut self, steps: usize) -> Result<(), Spent> {
        match self.left.checked_sub(steps as u64) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(Spent)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_step_is_allowed_and_the_next_is_not() {
        let mut meter = Meter::new(Budget {
            bytes_max: 1,
            steps_max: 3,
        });
        assert_eq!(meter.spend(3), Ok(()));
        assert_eq!(meter.spend(1), Err(Spent));
        assert_eq!(meter.spend(0), Ok(()));
    }
}
