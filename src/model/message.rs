//! A notification for a person, before anybody knows how it travels.

/// One notification.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// One line.
    pub title: String,
    /// Plain text.
    pub body: String,
    /// How urgent it is.
    pub priority: Priority,
    /// Short names; some are shown as symbols.
    pub tags: Vec<String>,
}

/// How urgent a notification is, from the least.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Priority {
    /// Shown nowhere but in the list.
    Min,
    /// Shown without a sound.
    Low,
    /// Shown as usual.
    #[default]
    Default,
    /// Shown as important.
    High,
    /// Rings until it is seen.
    Max,
}

impl Priority {
    /// All priorities, from the least; the position is the number less one.
    pub const ALL: [Self; 5] = [Self::Min, Self::Low, Self::Default, Self::High, Self::Max];

    /// The priority's number, 1 (least) to 5.
    pub fn number(self) -> u8 {
        match self {
            Self::Min => 1,
            Self::Low => 2,
            Self::Default => 3,
            Self::High => 4,
            Self::Max => 5,
        }
    }

    /// The priority of that name (`min`, `lowest`, `low`, `default`, `high`, `max`, `urgent`) or
    /// number.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "min" | "lowest" | "1" => Some(Self::Min),
            "low" | "2" => Some(Self::Low),
            "default" | "3" => Some(Self::Default),
            "high" | "4" => Some(Self::High),
            "max" | "urgent" | "5" => Some(Self::Max),
            _ => None,
        }
    }
}
