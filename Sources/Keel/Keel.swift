// Keel
