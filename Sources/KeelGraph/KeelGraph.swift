// KeelGraph
