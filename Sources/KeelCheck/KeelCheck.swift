// KeelCheck
