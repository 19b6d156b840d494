//! Two-stage AutoMixAlign training: SFT, specialists, scoring, generalists, evaluation
