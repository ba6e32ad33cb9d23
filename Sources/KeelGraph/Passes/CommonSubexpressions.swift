extension Pass {
  /// Computes equal operations on equal operands once.
  public static let commonSubexpressions = Pass("commonSubexpressions") { graph throws(GraphError) in
    struct Key: Hashable {
      let operation: Operation
      let inputs: [Value]
    }
    var known: [Key: [Value]] = [:]
    return try GraphRewriter.rewrite(graph) { rewriter, node, inputs throws(GraphError) in
      let key = Key(operation: node.operation, inputs: inputs)
      if let values = known[key] { return values }
      let values = try rewriter.append(node.operation, inputs, path: node.path)
      known[key] = values
      return values
    }
  }
}
