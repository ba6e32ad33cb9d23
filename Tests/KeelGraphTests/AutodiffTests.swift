import KeelCore
import KeelGraph
import Testing

@Suite struct AutodiffTests {
  private func gradients(
    _ inputs: [String: [Double]], _ names: [String], _ trace: (GraphBuilder, [Tensor]) -> Tensor
  ) throws -> [[Double]] {
    let builder = GraphBuilder(dtype: .float64)
    let x = names.map { builder.input($0, TensorType([inputs[$0]?.count ?? 0], .float64)) }
    for (name, gradient) in zip(names, builder.gradients(of: trace(builder, x), withRespectTo: x)) {
      builder.output(name, gradient)
    }
    let outputs = try Interpreter(builder.graph()).run(inputs).outputs
    return names.map { outputs[$0] ?? [] }
  }

  @Test func aValueUsedTwiceAccumulates() throws {
    #expect(try gradients(["x": [3, -2]], ["x"]) { _, x in (x[0] * x[0] + x[0]).sum() } == [[7, -3]])
    // As both operands of one node, and as operand of several.
    #expect(try gradients(["x": [3]], ["x"]) { _, x in (x[0] + x[0]).sum() } == [[2]])
  }

  @Test func diamond() throws {
    // y = (x² + 3x)·(x² − 3x): dy/dx = 4x³ − 18x
    let got = try gradients(["x": [2, 0.5]], ["x"]) { _, x in
      let (square, triple) = (x[0].elementwise(.square), x[0] * 3.0)
      return ((square + triple) * (square - triple)).sum()
    }
    #expect(distance(got[0], [-4, -8.5]) < 1e-12)
  }

  @Test func aTargetWithoutAPathGetsZeros() throws {
    let got = try gradients(["x": [2, 3], "z": [1, 1, 1]], ["x", "z"]) { _, x in x[0].sum() }
    #expect(got == [[1, 1], [0, 0, 0]])
    // A path that ends at something piecewise constant is none.
    #expect(try gradients(["x": [2, 3]], ["x"]) { _, x in x[0].elementwise(.greater, 2.5).sum() } == [[0, 0]])
  }

  @Test func zerosHaveTheTypeOfTheTarget() throws {
    let builder = GraphBuilder()
    let (x, z) = (builder.input("x", f32(2)), builder.input("z", f64(4, 5)))
    #expect(builder.gradients(of: x.sum(), withRespectTo: [x, z]).map(\.type) == [f32(2), f64(4, 5)])
  }

  @Test func theLossItselfAndInnerValuesAreTargetsToo() throws {
    let builder = GraphBuilder(dtype: .float64)
    let x = builder.input("x", f64(2))
    let inner = x * 3.0
    let loss = inner.elementwise(.square).sum()
    for (name, gradient) in zip(
      ["l", "i", "x", "again"], builder.gradients(of: loss, withRespectTo: [loss, inner, x, x]))
    { builder.output(name, gradient) }
    let outputs = try Interpreter(builder.graph()).run(["x": [1, 2]]).outputs
    #expect(outputs == ["l": [1], "i": [6, 12], "x": [18, 36], "again": [18, 36]])
  }

  @Test func onlyScalarsAreDifferentiated() {
    #expect(
      refusal { b in
        let x = b.input("x", f32(2, 3))
        _ = b.gradients(of: x, withRespectTo: [x])
      } == "[gradients] layer: expects a scalar to differentiate, got f32[2, 3]")
    #expect(
      refusal { b in
        let x = b.input("x", i32())
        _ = b.gradients(of: x, withRespectTo: [x])
      } == "[gradients] layer: expects a scalar to differentiate, got i32[]")
    // One element is scalar enough.
    #expect(refusal { b in _ = b.gradients(of: b.input("x", f32(1, 1)), withRespectTo: []) } == nil)
  }

  @Test func gradientNodesCarryThePathOfTheirLayer() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", f32(2, 3))
    let y = builder.scope("dense") { x.matMul(builder.input("w", f32(3, 2))) }
    builder.output("dx", builder.gradients(of: y.elementwise(.square).sum(), withRespectTo: [x])[0])
    let paths = try builder.graph().nodes.filter { $0.operation.rules.name == "matMul" }.map(\.path)
    #expect(paths == ["dense", "dense.gradient", "dense.gradient"])
  }

  @Test func onlyWhatLeadsToATargetIsComputed() throws {
    let builder = GraphBuilder()
    let (x, w) = (builder.input("x", f32(2, 3)), builder.input("w", f32(3, 2)))
    builder.output("dw", builder.gradients(of: x.matMul(w).sum(), withRespectTo: [w])[0])
    let live = try Pass.deadCode.run(builder.graph())
    // dX = dY·Wᵀ is not there.
    #expect(live.nodes.filter { $0.operation.rules.name == "matMul" }.count == 1)
  }

  @Test func gradientsOfGradients() throws {
    // y = Σx⁴ after two derivatives: 12x²
    let builder = GraphBuilder(dtype: .float64)
    let x = builder.input("x", f64(3))
    let first = builder.gradients(of: x.elementwise(.square).elementwise(.square).sum(), withRespectTo: [x])[0]
    builder.output("y", builder.gradients(of: first.sum(), withRespectTo: [x])[0])
    let got = try Interpreter(builder.graph()).run(["x": [1, -2, 0.5]]).outputs["y"] ?? []
    #expect(distance(got, [12, 48, 3]) < 1e-12)
  }

  @Test func nothingFlowsThroughIntegers() throws {
    let builder = GraphBuilder()
    let labels = builder.input("labels", i32(3))
    let x = builder.input("x", f32(3))
    let loss = (labels.cast(to: .float32) * x).sum()
    #expect(builder.gradients(of: loss, withRespectTo: [x, labels]).map(\.type) == [f32(3), i32(3)])
    #expect(builder.error == nil)
  }

  @Test func aWholeNetwork() throws {
    try expectGradients(
      ["x": f64(6, 5), "w": f64(5, 4), "scale": f64(4), "shift": f64(4), "v": f64(4, 3), "b": f64(3)],
      fixed: ["labels": [0, 1, 2, 2, 1, 0]], tolerance: 1e-6
    ) { builder, t in
      let normalized = builder.append(
        .batchNormTraining(BatchNormTraining(axis: 1, epsilon: 1e-5)), [t[0].matMul(t[1]), t[2], t[3]])[0]
      let hidden = normalized.elementwise(.tanh)
      let logits = (hidden + hidden.elementwise(.sigmoid)).matMul(t[4]) + t[5]
      return builder.append(.softmaxCrossEntropy(SoftmaxCrossEntropy()), [logits, builder.input("labels", i32(6))])[0]
    }
  }
}
