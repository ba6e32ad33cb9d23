import Foundation
import KeelCore
import KeelGraph
import Testing

@Suite struct BatchNormTests {
  private static func forward(_ b: GraphBuilder, _ x: [Tensor], axis: Int) -> [Tensor] {
    b.append(.batchNormTraining(BatchNormTraining(axis: axis, epsilon: 1e-3)), x)
  }

  /// Position of each element of `shape` among the channels of `axis`.
  private static func channels(_ shape: Shape, _ axis: Int) -> [Int] {
    (0..<shape.count).map { $0 / shape.strides[axis] % shape[axis] }
  }

  private static let layouts: [(shape: Shape, axis: Int)] = [
    ([7, 3], 1), ([2, 3, 4], 1), ([2, 4, 3], 2), ([3, 5, 2], 0), ([2, 2, 3, 2], 3), ([2, 3, 2, 2], 1), ([5, 1], 1),
  ]

  @Test(arguments: layouts) func definitionIsTheTextbook(_ layout: (shape: Shape, axis: Int)) throws {
    let (shape, axis) = layout
    let (channel, count) = (Self.channels(shape, axis), shape[axis])
    var random = Philox(seed: 1)
    let x = normals(shape.count, &random).map { 10 + 3 * $0 }
    let (scale, shift) = (normals(count, &random), normals(count, &random))
    let builder = GraphBuilder(dtype: .float64)
    let vector = TensorType([count], .float64)
    let results = Self.forward(
      builder,
      [
        builder.input("x", TensorType(shape, .float64)), builder.input("scale", vector), builder.input("shift", vector),
      ],
      axis: axis)
    for (name, result) in zip(["y", "mean", "residual", "variance"], results) { builder.output(name, result) }
    let outputs = try Interpreter(builder.graph()).run(["x": x, "scale": scale, "shift": shift]).outputs

    let m = Double(shape.count / count)
    var (mean, variance) = ([Double](repeating: 0, count: count), [Double](repeating: 0, count: count))
    for (value, c) in zip(x, channel) { mean[c] += value / m }
    for (value, c) in zip(x, channel) { variance[c] += (value - mean[c]) * (value - mean[c]) / m }
    let y = zip(x, channel).map { scale[$1] * ($0 - mean[$1]) / (variance[$1] + 1e-3).squareRoot() + shift[$1] }
    #expect(distance(outputs["y"] ?? [], y) < 1e-12)
    #expect(distance(zip(outputs["mean"] ?? [], outputs["residual"] ?? []).map(+), mean) < 1e-13)
    #expect(distance(outputs["variance"] ?? [], variance) < 1e-12)
    #expect((outputs["residual"] ?? [1]).allSatisfy { abs($0) < 1e-12 })
  }

  @Test func aConstantChannelGivesExactlyTheShift() throws {
    let y = try interpret(["x": [1e4, 1, 1e4, 2, 1e4, 3]]) { b in
      Self.forward(b, [b.input("x", f64(3, 2)), b.constant(5, [2]), b.constant(0.25, [2])], axis: 1)[0]
    }
    #expect([y[0], y[2], y[4]] == [0.25, 0.25, 0.25])
    #expect(y[1] < y[3] && y[3] < y[5])
  }

  @Test(arguments: layouts) func gradient(_ layout: (shape: Shape, axis: Int)) throws {
    let vector = TensorType([layout.shape[layout.axis]], .float64)
    try expectGradients(["x": TensorType(layout.shape, .float64), "scale": vector, "shift": vector]) { b, x in
      Self.forward(b, x, axis: layout.axis)[0]
    }
  }

  @Test(arguments: layouts) func gradientThroughTheStatistics(_ layout: (shape: Shape, axis: Int)) throws {
    try expectGradients(["x": TensorType(layout.shape, .float64)]) { b, x in
      let results = Self.forward(
        b, x + [b.constant(1, [x[0].shape[layout.axis]]), b.constant(0, [x[0].shape[layout.axis]])],
        axis: layout.axis)
      return results[1] * 2.0 + results[3].elementwise(.squareRoot) + results[2]
    }
  }

  @Test func gradientOfAllResultsAtOnce() throws {
    try expectGradients(["x": f64(6, 3), "scale": f64(3), "shift": f64(3)]) { b, x in
      let results = Self.forward(b, x, axis: 1)
      return results[0] * results[3] + results[1] * results[1]
    }
  }

  @Test func secondDerivatives() throws {
    // The gradient of the backward operation comes from its definition.
    try expectGradients(["x": f64(5, 2), "scale": f64(2), "shift": f64(2)], tolerance: 1e-6) { b, x in
      let y = Self.forward(b, x, axis: 1)[0].elementwise(.tanh)
      let first = b.gradients(of: y.elementwise(.square).sum(), withRespectTo: [x[0], x[1]])
      return first[0].elementwise(.square) + first[1] + x[2]
    }
  }

  @Test(arguments: layouts) func backwardIsTheGradientOfTheDefinition(_ layout: (shape: Shape, axis: Int)) throws {
    let builder = GraphBuilder(dtype: .float64)
    let vector = TensorType([layout.shape[layout.axis]], .float64)
    let full = TensorType(layout.shape, .float64)
    let x = [builder.input("x", full), builder.input("scale", vector), builder.input("shift", vector)]
    let operation = BatchNormTraining(axis: layout.axis, epsilon: 1e-3)
    let dy = builder.input("dy", full)
    let traced = try #require(operation.definition(x))[0]
    let wanted = builder.gradients(of: (traced * dy).sum(), withRespectTo: x)
    let got = builder.gradients(of: (builder.append(.batchNormTraining(operation), x)[0] * dy).sum(), withRespectTo: x)
    for index in 0..<3 {
      builder.output("wanted\(index)", wanted[index])
      builder.output("got\(index)", got[index])
    }
    let graph = try builder.graph()
    #expect(graph.nodes.filter { $0.operation.rules.name == "batchNormBackward" }.count == 1)
    let outputs = try Interpreter(graph).run(randomInputs(graph, seed: 4)).outputs
    for index in 0..<3 {
      #expect(distance(outputs["wanted\(index)"] ?? [], outputs["got\(index)"] ?? [.nan]) < 1e-11)
    }
  }

  @Test func slotsAreAppliedToTheResultAndToDy() throws {
    let relu = Expression(
      inputCount: 2, instructions: [.init(.add, [.input(0), .input(1)]), .init(.relu, [.instruction(0)])])
    let builder = GraphBuilder(dtype: .float64)
    let (x, r) = (builder.input("x", f64(6, 2)), builder.input("r", f64(6, 2)))
    let vectors = [builder.input("scale", f64(2)), builder.input("shift", f64(2))]
    let plain = Self.forward(builder, [x] + vectors, axis: 1)
    let operation = BatchNormTraining(axis: 1, epsilon: 1e-3, epilogue: relu)
    builder.output("fused", builder.append(.batchNormTraining(operation), [x] + vectors + [r])[0])
    builder.output("plain", (plain[0] + r).elementwise(.relu))

    let backward = { (b: BatchNormBackward, dy: Tensor, rest: [Tensor]) in
      builder.append(.batchNormBackward(b), [dy, x, vectors[0]] + plain[1...] + rest)
    }
    let dy = builder.input("dy", f64(6, 2))
    let through = backward(BatchNormBackward(axis: 1, epsilon: 1e-3), (dy + r).elementwise(.relu), [])
    let inside = backward(BatchNormBackward(axis: 1, epsilon: 1e-3, prologue: relu), dy, [r])
    for index in 0..<3 {
      builder.output("through\(index)", through[index])
      builder.output("inside\(index)", inside[index])
    }
    let graph = try builder.graph()
    let outputs = try Interpreter(graph).run(randomInputs(graph, seed: 2)).outputs
    #expect(outputs["fused"] == outputs["plain"])
    for index in 0..<3 { #expect(outputs["through\(index)"] == outputs["inside\(index)"]) }
    #expect(outputs["fused"]?.contains(0) == true)
  }

  @Test func aSlottedNodeIsDifferentiatedThroughItsDefinition() throws {
    let tanh = Expression(inputCount: 1, instructions: [.init(.tanh, [.input(0)])])
    try expectGradients(["x": f64(5, 2), "scale": f64(2), "shift": f64(2)]) { b, x in
      b.append(.batchNormTraining(BatchNormTraining(axis: 1, epsilon: 1e-3, epilogue: tanh)), x)[0]
    }
  }

  @Test func runningUpdate() throws {
    let builder = GraphBuilder(dtype: .float64)
    let operands = ["mean", "variance", "n", "m", "r", "v"].map { builder.input($0, f64(2)) }
    let update = BatchNormRunningUpdate(weight: .fixed(0.1), varianceFactor: 4.0 / 3)
    let results = builder.append(.batchNormRunningUpdate(update), operands)
    builder.output("mean'", results[0])
    builder.output("variance'", results[1])
    builder.output("n'", results[2])
    let outputs = try Interpreter(builder.graph()).run(
      ["mean": [1, -2], "variance": [1, 4], "n": [0, 7], "m": [3, 2], "r": [0.5, 0], "v": [6, 3]]
    ).outputs
    #expect(outputs["n'"] == [1, 8])
    #expect(distance(outputs["mean'"] ?? [], [0.9 + 0.35, -1.8 + 0.2]) < 1e-15)
    #expect(distance(outputs["variance'"] ?? [], [0.9 + 0.8, 3.6 + 0.4]) < 1e-15)
    // No gradient flows into what is kept.
    let scalar = results[0].sum()
    #expect(builder.gradients(of: scalar, withRespectTo: [operands[3]]).map(\.type) == [f64(2)])
  }

  @Test func typeRules() throws {
    let forward = Operation.batchNormTraining(BatchNormTraining(axis: 1, epsilon: 1e-5))
    #expect(try outputTypes(forward, f32(64, 16), f32(16), f32(16)) == [f32(64, 16), f32(16), f32(16), f32(16)])
    #expect(
      refusal(forward, f32(64, 16), f32(32), f32(32))
        == "[batchNormTraining] expects 32 channels on axis 1, got [64, 16]")
    #expect(
      refusal(forward, f32(64, 16), f32(16), f32(8)) == "[batchNormTraining] expects 8 channels on axis 1, got [64, 16]"
    )
    #expect(refusal(forward, f32(64), f32(16), f32(16)) == "[batchNormTraining] expects an axis of [64], got 1")
    #expect(
      refusal(forward, f32(1, 16), f32(16), f32(16))
        == "[batchNormTraining] training expects more than one value per channel, got [1, 16]: "
        + "the variance of one value is no estimate")
    #expect(refusal(forward, f32(0, 16), f32(16), f32(16))?.contains("more than one value per channel") == true)
    #expect(try outputTypes(forward, f32(1, 16, 2), f32(16), f32(16))[0] == f32(1, 16, 2))
    let message = "expects x of a floating-point type and vectors of the type it is computed in"
    #expect(refusal(forward, f32(64, 16), f64(16), f32(16))?.contains(message) == true)
    // What is stored in 16 bits has statistics and parameters of float32.
    for dtype in [DType.float16, .bfloat16] {
      let x = TensorType([64, 16], dtype)
      #expect(try outputTypes(forward, x, f32(16), f32(16)) == [x, f32(16), f32(16), f32(16)])
      #expect(refusal(forward, x, TensorType([16], dtype), f32(16))?.contains(message) == true)
      #expect(refusal(forward, x, f64(16), f64(16))?.contains(message) == true)
    }
    #expect(refusal(forward, f32(64, 16), f32(16)) == "[batchNormTraining] expects 3 operands, got 2")
    #expect(
      refusal { b in
        b.scope("layers") {
          b.scope("1") {
            _ = b.append(forward, [b.input("x", f32(64, 16)), b.input("s", f32(32)), b.input("s", f32(32))])
          }
        }
      } == "[batchNormTraining] layer.layers.1: expects 32 channels on axis 1, got [64, 16]")

    let backward = Operation.batchNormBackward(BatchNormBackward(axis: 1, epsilon: 1e-5))
    let c = f32(16)
    #expect(try outputTypes(backward, f32(64, 16), f32(64, 16), c, c, c, c) == [f32(64, 16), c, c])
    let half = TensorType([64, 16], .float16)
    #expect(try outputTypes(backward, half, half, c, c, c, c) == [half, c, c])
    #expect(refusal(backward, f32(64, 16), half, c, c, c, c)?.contains("expects dy of x's type f16[64, 16]") == true)
    #expect(
      refusal(backward, f32(16, 64), f32(64, 16), c, c, c, c)
        == "[batchNormBackward] expects dy of x's type f32[64, 16], got f32[16, 64]")
    #expect(
      refusal(backward, f32(64, 16), f32(64, 16), c, c, c, f32(1))
        == "[batchNormBackward] expects 1 channels on axis 1, got [64, 16]")
    let slotted = Operation.batchNormTraining(BatchNormTraining(axis: 1, epsilon: 1e-5, epilogue: Expression(.add)))
    #expect(try outputTypes(slotted, f32(4, 2), f32(2), f32(2), f32(4, 2)).count == 4)
    #expect(try outputTypes(slotted, f32(4, 2), f32(2), f32(2), f32(1)).count == 4)
    #expect(
      refusal(slotted, f32(4, 2), f32(2), f32(2), f32(2))
        == "[batchNormTraining] expects slot operands of f32[4, 2] or one element of its type, got f32[2]")
    let stored = TensorType([4, 2], .bfloat16)
    #expect(try outputTypes(slotted, stored, f32(2), f32(2), stored).count == 4)
    #expect(refusal(slotted, stored, f32(2), f32(2), f32(4, 2))?.contains("slot operands of bf16[4, 2]") == true)
    #expect(refusal(slotted, stored, f32(2), f32(2), f32())?.contains("slot operands of bf16[4, 2]") == true)
    #expect(refusal(slotted, f32(4, 2), f32(2), f32(2)) == "[batchNormTraining] expects 4 operands, got 3")

    let running = Operation.batchNormRunningUpdate(BatchNormRunningUpdate(weight: .fixed(0.1), varianceFactor: 1))
    #expect(try outputTypes(running, c, c, c, c, c, c) == [c, c, c])
    #expect(refusal(running, c, c, c, c, c, f32(8))?.contains("expects six vectors of one length") == true)
    let m = f32(2, 2)
    #expect(refusal(running, m, m, m, m, m, m)?.contains("six vectors") == true)
    var guarded = BatchNormRunningUpdate(weight: .cumulative, varianceFactor: 1)
    guarded.isGuarded = true
    #expect(try outputTypes(.batchNormRunningUpdate(guarded), c, c, c, c, c, c, f32()) == [c, c, c])
    #expect(
      refusal(.batchNormRunningUpdate(guarded), c, c, c, c, c, c, c)
        == "[batchNormRunningUpdate] expects one element as its guard, got f32[16]")
    #expect(refusal(.batchNormRunningUpdate(guarded), c, c, c, c, c, c) != nil)
  }
}
