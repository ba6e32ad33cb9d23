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
    let (w, scale, shift) = (
      parameter("0.weight", f32(3, 2)), parameter("1.scale", f32(2)), parameter("1.shift", f32(2))
    )
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
      [builder.input("rates", f32(1), role: .control), builder.input("cursor", Cursor.type, role: .control)]
        + parameters
        + gradients)
    for (old, new) in zip(parameters, moved) { builder.update(old, with: new) }
    builder.output("loss", loss)
    return try builder.graph()
  }

  @Test func aTrainingStepAsTraced() throws {
    #expect(try step().description == Self.traced)
  }

  @Test func aTrainingStepAsCompiled() throws {
    #expect(try Pipeline.standard.omitting(Pipeline.unproven).run(step()).description == Self.compiled)
  }

  private static let traced = """
    graph step {
      %0 = x{data} : f32[4, 3]
      %1 = labels{data} : i32[4]
      %2 = 0.weight{parameter} : f32[3, 2]
      %3 = 1.scale{parameter} : f32[2]
      %4 = 1.shift{parameter} : f32[2]
      %5 = 3.weight{parameter} : f32[2, 2]
      %6 = 3.bias{parameter} : f32[2]
      %7 = matMul(%0, %2) : f32[4, 2]  // 0
      %8:4 = batchNormTraining{axis 1, epsilon 0.5}(%7, %3, %4) : f32[4, 2], f32[2], f32[2], f32[2]  // 1
      %9 = relu(%8.0) : f32[4, 2]  // 2
      %10 = matMul(%9, %5) : f32[4, 2]  // 3
      %11 = add(%10, %6) : f32[4, 2]  // 3
      %12 = softmaxCrossEntropy(%11, %1) : f32[4]  // loss
      %13 = reduceSum{axis 0}(%12) : f32[]  // loss
      %14 = constant{0.25} : f32[]  // loss
      %15 = multiply(%13, %14) : f32[]  // loss
      %16 = constant{1.0} : f32[]
      %17 = multiply(%16, %14) : f32[]  // loss.gradient
      %18 = multiply(%16, %13) : f32[]  // loss.gradient
      %19 = reshape(%17) : f32[1]  // loss.gradient
      %20 = broadcast(%19) : f32[4]  // loss.gradient
      %21 = softmaxCrossEntropyBackward(%20, %11, %1) : f32[4, 2]  // loss.gradient
      %22 = reduceSum{axis 0}(%21) : f32[2]  // 3.gradient
      %23 = matMul{NT}(%21, %5) : f32[4, 2]  // 3.gradient
      %24 = matMul{TN}(%9, %21) : f32[2, 2]  // 3.gradient
      %25 = constant{0.0} : f32[]  // 2.gradient
      %26 = greater(%9, %25) : f32[4, 2]  // 2.gradient
      %27 = constant{0.0} : f32[]  // 2.gradient
      %28 = select(%26, %23, %27) : f32[4, 2]  // 2.gradient
      %29:3 = batchNormBackward{axis 1, epsilon 0.5}(%28, %7, %3, %8.1, %8.2, %8.3) : f32[4, 2], f32[2], f32[2]  // \
    1.gradient
      %30 = matMul{NT}(%29.0, %2) : f32[4, 3]  // 0.gradient
      %31 = matMul{TN}(%0, %29.0) : f32[3, 2]  // 0.gradient
      %32 = rates{control} : f32[1]
      %33 = cursor{control} : i32[3]
      %34:5 = optimizerStep{sgd(momentum: 0.0, nesterov: false, weightDecay: 0.0)}(%32, %33, %2, %3, %4, %5, %6, \
    %31, %29.1, %29.2, %24, %22) : f32[3, 2], f32[2], f32[2], f32[2, 2], f32[2]
      update "0.weight" <- %34.0
      update "1.scale" <- %34.1
      update "1.shift" <- %34.2
      update "3.weight" <- %34.3
      update "3.bias" <- %34.4
      output loss = %15
    }
    """
  private static let compiled = """
    graph step {
      %0 = x{data} : f32[4, 3]
      %1 = labels{data} : i32[4]
      %2 = 0.weight{parameter} : f32[3, 2]
      %3 = 1.scale{parameter} : f32[2]
      %4 = 1.shift{parameter} : f32[2]
      %5 = 3.weight{parameter} : f32[2, 2]
      %6 = 3.bias{parameter} : f32[2]
      %7 = matMul(%0, %2) : f32[4, 2]  // 0
      %8:4 = batchNormTraining{axis 1, epsilon 0.5, epilogue relu($0)}(%7, %3, %4) : f32[4, 2], f32[2], f32[2], \
    f32[2]  // 1
      %9 = matMul{epilogue add($0, $1)}(%8.0, %5, %6) : f32[4, 2]  // 3
      %10 = constant{0.25} : f32[4]  // loss.gradient
      %11:2 = softmaxCrossEntropyWithGradient(%10, %9, %1) : f32[4], f32[4, 2]  // loss
      %12 = reduceSum{axis 0}(%11.0) : f32[]  // loss
      %13 = fused{multiply($0, 0.25)}(%12) : f32[]  // loss
      %14 = reduceSum{axis 0}(%11.1) : f32[2]  // 3.gradient
      %15 = matMul{TN}(%8.0, %11.1) : f32[2, 2]  // 3.gradient
      %16 = matMul{NT, epilogue select(greater($1, 0), $0, 0)}(%11.1, %5, %8.0) : f32[4, 2]  // 3.gradient
      %17:3 = batchNormBackward{axis 1, epsilon 0.5}(%16, %7, %3, %8.1, %8.2, %8.3) : f32[4, 2], f32[2], f32[2]  // \
    1.gradient
      %18 = matMul{TN}(%0, %17.0) : f32[3, 2]  // 0.gradient
      %19 = rates{control} : f32[1]
      %20 = cursor{control} : i32[3]
      %21:5 = optimizerStep{sgd(momentum: 0.0, nesterov: false, weightDecay: 0.0)}(%19, %20, %2, %3, %4, %5, %6, \
    %18, %17.1, %17.2, %15, %14) : f32[3, 2], f32[2], f32[2], f32[2, 2], f32[2]
      update "0.weight" <- %21.0
      update "1.scale" <- %21.1
      update "1.shift" <- %21.2
      update "3.weight" <- %21.3
      update "3.bias" <- %21.4
      output loss = %13
    }
    """

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
