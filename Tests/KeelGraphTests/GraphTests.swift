import KeelCore
import KeelGraph
import Testing

/// The verifier against graphs that a broken pass could leave behind.
@Suite struct GraphTests {
  private func sample() throws -> Graph {
    let builder = GraphBuilder()
    let x = builder.input("x", f32(4, 3))
    let w = builder.input("w", f32(3, 2), role: .parameter)
    builder.scope("dense") { builder.output("y", x.matMul(w).elementwise(.relu)) }
    builder.update(w, with: w * 2.0)
    return try builder.graph()
  }

  private func complaint(_ corrupt: (inout Graph) -> Void) throws -> String? {
    var graph = try sample()
    corrupt(&graph)
    do {
      _ = try graph.verified()
      return nil
    } catch { return "\(error)" }
  }

  @Test func whatTheBuilderMadeIsValid() throws {
    #expect(try complaint { _ in } == nil)
  }

  @Test func useBeforeDefinition() throws {
    #expect(
      try complaint { $0.nodes[2].inputs[0] = Value(node: 3) } == "[matMul] dense: %2 reads %3 before it is defined")
    #expect(
      try complaint { $0.nodes[2].inputs[0] = Value(node: 2) } == "[matMul] dense: %2 reads %2 before it is defined")
    #expect(
      try complaint { $0.nodes[2].inputs[0] = Value(node: -1) } == "[matMul] dense: %2 reads %-1 before it is defined")
    #expect(
      try complaint { $0.nodes[2].inputs[0] = Value(node: 0, output: 1) }
        == "[matMul] dense: %2 reads %0 before it is defined")
    #expect(try complaint { $0.nodes.swapAt(2, 3) } == "[relu] dense: %2 reads %2 before it is defined")
  }

  @Test func typesThatTheRuleDoesNotGive() throws {
    #expect(
      try complaint { $0.nodes[2].types = [f32(2, 4)] }
        == "[matMul] dense: %2 expects types [f32[4, 2]], has [f32[2, 4]]")
    #expect(try complaint { $0.nodes[2].types = [] } == "[matMul] dense: %2 expects types [f32[4, 2]], has []")
    #expect(
      try complaint { $0.nodes[1].types = [f32(4, 2)] } == "[w] %1 expects types [f32[3, 2]], has [f32[4, 2]]")
  }

  @Test func operandsThatTheRuleRefuses() throws {
    #expect(
      try complaint { $0.nodes[2].inputs.swapAt(0, 1) }
        == "[matMul] dense: expects inner extents that agree, got [3, 2] · [4, 3]")
    #expect(try complaint { $0.nodes[2].inputs.removeLast() } == "[matMul] dense: expects 2 operands, got 1")
  }

  @Test func updates() throws {
    #expect(
      try complaint { $0.updates[0].value = Value(node: 2) } == "[update] w expects f32[3, 2], got f32[4, 2]")
    #expect(try complaint { $0.updates[0].variable = Value(node: 3) } == "[update] %3 expects a variable")
    #expect(try complaint { $0.updates[0].value = Value(node: 17) } == "[update] w takes %17, which is not defined")
    #expect(try complaint { $0.updates[0].variable = Value(node: -1) } == "[update] %-1 expects a variable")
    #expect(try complaint { $0.updates.append($0.updates[0]) } == "[update] w expects one new value, got two")
  }

  @Test func outputs() throws {
    #expect(try complaint { $0.outputs[0].value = Value(node: 17) } == "[output] y is %17, which is not defined")
    #expect(try complaint { $0.outputs[0].value.output = 1 } == "[output] y is %3, which is not defined")
  }

  @Test func readersAndResults() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", f32(3))
    let y = x * x
    builder.output("y", y)
    builder.update(x, with: y + x)
    let graph = try builder.graph()
    #expect(graph.readers() == [x.value: [1, 1, 2], y.value: [2]])
    #expect(graph.results == [y.value, Value(node: 2)])
    #expect(graph.inputs.map(\.input.label) == ["x"])
  }

  @Test func everyPassGivesWhatTheVerifierTakesOrThrows() throws {
    // A pipeline stops at the pass that breaks a graph, and says what is wrong.
    let breaking = Pass("breaking") { graph throws(GraphError) in
      var graph = graph
      graph.nodes[2].inputs[1] = Value(node: 3)
      return graph
    }
    var seen: [String] = []
    #expect {
      _ = try Pipeline([.deadCode, breaking, .deadCode]).run(sample()) { name, _ in seen.append(name) }
    } throws: { "\($0)" == "[matMul] dense: %2 reads %3 before it is defined" }
    #expect(seen == ["deadCode"])
  }
}
