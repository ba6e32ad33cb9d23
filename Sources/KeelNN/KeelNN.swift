// KeelNN
