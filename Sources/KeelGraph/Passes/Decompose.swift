extension Pass {
  /// Replaces every operation that has a definition by it.
  public static let decompose = Pass("decompose") { graph throws(GraphError) in
    try GraphRewriter.rewrite(graph) { rewriter, node, inputs throws(GraphError) in
      try rewriter.appendDefinition(of: node, inputs)
    }
  }
}
