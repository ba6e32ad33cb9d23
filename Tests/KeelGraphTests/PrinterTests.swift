import KeelCore
import KeelGraph
import Testing

@Suite struct PrinterTests {
  /// A step of training for Linear, BatchNorm, ReLU, Linear with plain descent.
  private func step() throws -> Graph {
    let builder = GraphBuilder(name: "step", mode: .training)
    let x = builder.input("x", f32(4, 3))
    let labels = builder.input("labels", i32(4))
    func parameter(_ name: String, _ type: TensorType) -> Tensor { builder.input(name, type, role: .parameter) }
    let (w, scale, shift) = (parameter("0.weight", f32(3, 2)), parameter("1.scale", f32(2)), parameter("1.shift", f32(2)))
    let (v, bias) = (parameter("3.weight", f32(2, 2)), parameter("3.bias", f32(2)))
    let product = builder.scope("0") { x.matMul(w) }
    let normalized = builder.scope("1") {
      builder.append(.batchNormTraining(BatchNormTraining(axis: 1, epsilon: 0.5)), [product, scale, shift])[0]
    }
    let hidden = builder.scope("2") { normalized.elementwise(.relu) }
    let logits = builder.scope("3") { hidden.matMul(v) + bias }
    let loss = builder.scope("loss") {
      builder.append(.softmaxCrossEntropy(SoftmaxCrossEntropy()), [logits, labels])[0].mean()
    }
    let parameters = [w, scale, shift, v, bias]
    let gradients = builder.gradients(of: loss, withRespectTo: parameters)
    let moved = builder.append(
      .optimizerStep(OptimizerStep(.sgd(momentum: 0, nesterov: false, weightDecay: 0), count: 5)),
      [builder.input("rates", f32(1), role: .control), builder.input("cursor", Cursor.type, role: .control)] + parameters
        + gradients)
    for (old, new) in zip(parameters, moved) { builder.update(old, with: new) }
    builder.output("loss", loss)
    return try builder.graph()
  }

  @Test func aTrainingStepAsTraced() throws {
    #expect(try step().description == Self.traced)
  }

  @Test func aTrainingStepAsCompiled() throws {
    #expect(try Pipeline.standard.run(step()).description == Self.compiled)
  }

  private static let traced = ""
  private static let compiled = ""

  @Test func everyPartOfALine() throws {
    let builder = GraphBuilder(name: "g")
    let x = builder.input("x", f32(2, 3))
    let row = builder.constant((0..<10).map(Double.init), [10])
    builder.scope("layer") { builder.output("t", x.transpose([1, 0])) }
    builder.output("row", row)
    builder.update(x, with: x)
    #expect(
      try builder.graph().description == """
        graph g {
          %0 = x{data} : f32[2, 3]
          %1 = constant{0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, … 10} : f32[10]
          %2 = transpose{1 0}(%0) : f32[3, 2]  // layer
          update "x" <- %0
          output t = %2
          output row = %1
        }
        """)
  }
}
