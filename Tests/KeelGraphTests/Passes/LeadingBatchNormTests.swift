import KeelCore
import KeelGraph
import Testing

@Suite struct LeadingBatchNormTests {
  /// Gradients of a sum over (γ⊙x̂ + β)·W, of x as well where `needsInput` says so.
  private func network(rows: Int = 8, needsInput: Bool = false, _ after: (Tensor) -> Tensor = { $0 }) throws -> Graph {
    let builder = GraphBuilder(name: "g", mode: .training)
    let x = builder.input("x", f32(rows, 3))
    let parameters = [
      builder.input("scale", f32(3), role: .parameter), builder.input("shift", f32(3), role: .parameter),
      builder.input("weight", f32(3, 5), role: .parameter),
    ]
    let y = builder.append(.batchNormTraining(BatchNormTraining(axis: 1, epsilon: 0.1)), [x] + parameters[..<2])[0]
    let loss = after(y).matMul(parameters[2]).elementwise(.tanh).sum()
    builder.output("loss", loss)
    for (index, gradient) in builder.gradients(
      of: loss, withRespectTo: parameters + (needsInput ? [x] : [])
    ).enumerated() { builder.output("d\(index)", gradient) }
    return try builder.graph()
  }

  private func names(_ graph: Graph) -> [String] { graph.nodes.map(\.operation.rules.name) }

  @Test func theInputsGradientIsNotMade() throws {
    let graph = try Pass.deadCode.run(network())
    let after = try sameResults(graph, after: Pipeline([.leadingBatchNorm]))
    #expect(names(graph).count { $0 == "matMul" } == 3 && names(graph).contains("batchNormBackward"))
    #expect(names(after).count { $0 == "matMul" } == 2 && !names(after).contains("batchNormBackward"))
    #expect(names(after).contains("affineProductGradient"))
  }

  @Test func whoeverElseReadsTheNormalizedValuesReadsTheSame() throws {
    let graph = try network()
    var widened = graph
    let normalized = try #require(graph.nodes.firstIndex { $0.operation.rules.name == "batchNormTraining" })
    widened.outputs.append(Graph.Output(name: "y", value: Value(node: normalized)))
    let before = try Pass.deadCode.run(widened)
    let after = try sameResults(before, after: Pipeline([.leadingBatchNorm]))
    #expect(names(after).contains("affineProductGradient"))
  }

  @Test func whatAsksForTheInputsGradientKeepsIt() throws {
    for graph in [
      try network(needsInput: true), try network(rows: 7),
      // The product's operand is not the batch norm's own result.
      try network { $0.elementwise(.relu) }, try network { $0 + $0.elementwise(.square) },
    ] {
      let before = try Pass.deadCode.run(graph)
      #expect(try Pass.leadingBatchNorm.run(before) == before)
    }
  }
}
