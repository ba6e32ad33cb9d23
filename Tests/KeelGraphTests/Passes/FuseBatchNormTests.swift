import KeelCore
import KeelGraph
import Testing

@Suite struct FuseBatchNormTests {
  /// relu(batchNorm(x·w + b)) and its gradients.
  private func layer(
    rows: Int = 4, transposeB: Bool = false, axis: Int = 1, bias: Bool = true
  ) throws -> Graph {
    let builder = GraphBuilder(mode: .training)
    let w = builder.input("w", transposeB ? f32(5, 3) : f32(3, 5), role: .parameter)
    var z = builder.input("x", f32(rows, 3)).matMul(w, transposeB: transposeB)
    if bias { z = z + builder.input("b", f32(5), role: .parameter) }
    let channels = axis == 1 ? 5 : rows
    let (scale, shift) = (builder.input("scale", f32(channels)), builder.input("shift", f32(channels)))
    let y = builder.append(.batchNormTraining(BatchNormTraining(axis: axis, epsilon: 1e-3)), [z, scale, shift])
    let result = y[0].elementwise(.relu)
    let loss = (result * result).sum()
    for (name, gradient) in zip(["dw", "dscale"], builder.gradients(of: loss, withRespectTo: [w, scale])) {
      builder.output(name, gradient)
    }
    builder.output("y", result)
    builder.output("mean", y[1] + y[2])
    return try builder.graph()
  }

  /// What the passes before leave, with its batch norms in their products, and how many there are.
  private func fused(_ source: Graph) throws -> (graph: Graph, count: Int) {
    let before = try Pipeline.standard.omitting(["fuseBatchNorm"]).run(source)
    let after = try Pass.fuseBatchNorm.run(before).verified()
    let inputs = randomInputs(source, seed: 5)
    #expect(distance(try Interpreter(after).run(inputs), try Interpreter(source).run(inputs)) < 1e-9)
    return (after, after.nodes.count { $0.operation.rules.name == "matMulBatchNorm" })
  }

  @Test(arguments: [false, true]) func batchNormIsMadeWithItsProduct(_ bias: Bool) throws {
    let (graph, count) = try fused(layer(bias: bias))
    #expect(count == 1)
    let names = graph.nodes.map(\.operation.rules.name)
    #expect(!names.contains("batchNormTraining") && names.contains("batchNormBackward"))
    let node = try #require(graph.nodes.first { $0.operation.rules.name == "matMulBatchNorm" })
    // The backward pass reads the product; both epilogues are in.
    #expect(node.types == [f32(4, 5), f32(4, 5), f32(5), f32(5), f32(5)])
    #expect(node.operation.rules.attributes.ranges(of: "epilogue").count == (bias ? 2 : 1))
    #expect(try Pass.fuseBatchNorm.run(graph) == graph)
  }

  @Test func onlyWholeColumnsOfSmallBatches() throws {
    #expect(try fused(layer(rows: 256)).count == 1)
    #expect(try fused(layer(rows: 257)).count == 0)
    #expect(try fused(layer(transposeB: true)).count == 0)
    #expect(try fused(layer(axis: 0)).count == 0)
  }

  /// What the batch norm's epilogue reads may follow from the product.
  @Test func cyclesAreNotMade() throws {
    let builder = GraphBuilder(mode: .training)
    let z = builder.input("x", f32(4, 3)).matMul(builder.input("w", f32(3, 5)))
    let operation = BatchNormTraining(axis: 1, epsilon: 1e-3, epilogue: Expression(.add))
    let results = builder.append(
      .batchNormTraining(operation),
      [z, builder.input("scale", f32(5)), builder.input("shift", f32(5)), z.matMul(z, transposeB: true).matMul(z)])
    builder.output("y", results[0])
    #expect(try fused(builder.graph()).count == 0)
  }

  @Test func typeRules() throws {
    let product = MatMul(epilogue: Expression(.add))
    let operation = Operation.matMulBatchNorm(MatMulBatchNorm(product, BatchNormTraining(axis: 1, epsilon: 1e-5)))
    let (a, b, vector) = (f32(4, 3), f32(3, 5), f32(5))
    #expect(
      try outputTypes(operation, a, b, vector, vector, vector) == [f32(4, 5), f32(4, 5), vector, vector, vector])
    #expect(refusal(operation, a, b, vector) == "[matMulBatchNorm] expects more than 3 operands, got 3")
    #expect(refusal(operation, a, f32(4, 5), vector, vector, vector)?.hasPrefix("[matMul] ") == true)
    #expect(refusal(operation, a, b, vector, vector, f32(4))?.hasPrefix("[batchNormTraining] ") == true)
  }
}
