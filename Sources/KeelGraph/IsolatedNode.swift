extension Graph {
  /// The node alone: its operands are inputs `i0`, `i1`, …, a value that it reads twice one of them; its results are
  /// outputs `o0`, `o1`, ….
  public func isolated(_ index: Int) -> Graph {
    let node = nodes[index]
    var graph = Graph(name: node.operation.rules.name)
    var places: [Value: Value] = [:]
    for operand in node.inputs where places[operand] == nil {
      let type = type(of: operand)
      places[operand] = Value(node: graph.nodes.count)
      graph.nodes.append(
        Node(
          operation: .input(Input(name: "i\(graph.nodes.count)", role: .data, type: type)), inputs: [], types: [type],
          path: ""))
    }
    let result = graph.nodes.count
    graph.nodes.append(
      Node(
        operation: node.operation, inputs: node.inputs.compactMap { places[$0] }, types: node.types, path: node.path))
    graph.outputs = node.types.indices.map { Output(name: "o\($0)", value: Value(node: result, output: $0)) }
    return graph
  }
}
