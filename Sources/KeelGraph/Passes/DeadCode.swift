extension Pass {
  /// Removes what no output and no update depends on.
  public static let deadCode = Pass("deadCode") { graph throws(GraphError) in
    var alive = [Bool](repeating: false, count: graph.nodes.count)
    for value in graph.results { alive[value.node] = true }
    for update in graph.updates { alive[update.variable.node] = true }
    for index in graph.nodes.indices.reversed() where alive[index] {
      for input in graph.nodes[index].inputs { alive[input.node] = true }
    }
    return graph.selecting(graph.nodes.indices.filter { alive[$0] })
  }
}
