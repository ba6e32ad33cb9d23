import KeelCL
import KeelCore
import KeelGraph
import KeelPrimitives

/// A node once the memory plan has given it buffers.
struct PlacedNode {
  var outputs: [Buffer]
  var inputs: [Buffer]
  var workspace: Buffer?
}

/// A node whose kernels are chosen: what scratch memory they want, and how they are bound to buffers.
struct Lowered {
  var workspaceBytes = 0
  var variant = ""
  /// What the kernels solve; nil where it is several problems.
  var problem: (any KernelProblem)?
  /// Pairs whose kernel changes the operand where it lies. Where the plan gives the result memory of its own, the operand
  /// is copied there first.
  var overwrites: [(output: Int, operand: Int)] = []
  var bind: (PlacedNode, ComputeContext) throws -> [BoundLaunch]

  /// The node's launches in order, each said to touch all that the node does.
  func launches(_ placed: PlacedNode, _ context: ComputeContext, path: String = "") throws -> [BoundLaunch] {
    try bind(placed, context).map { launch in
      var launch = launch
      launch.path = path
      launch.footprint = BoundLaunch.Footprint(
        reads: placed.inputs, writes: placed.outputs + (placed.workspace.map { [$0] } ?? []))
      return launch
    }
  }
}

/// Chooses kernels for the nodes of a graph on a device.
struct Lowering {
  let graph: Graph
  let profile: DeviceProfile
  /// Names of variants that tests want, by family.
  let forced: [String: String]
  /// Whether neighbouring parameters are updated in one launch, the padding between them included.
  var joinsParameters = true

  /// Nil for nodes that need no launch. Throws when no kernel takes the node.
  func lower(_ node: Node) throws -> Lowered? {
    let inputs = node.inputs.map { graph.type(of: $0) }
    switch node.operation {
    case .input, .constant, .reshape:
      return nil
    case .elementwise(let operation):
      return try elementwise(Expression(operation.function), inputs, node)
    case .fused(let operation):
      return try elementwise(operation.expression, inputs, node)
    case .cast, .broadcast:
      return try elementwise(Expression(.copy), inputs, node)
    case .transpose(let operation):
      return try lowered(
        TransposeProblem(inputs[0].shape, permutation: operation.permutation, dtype: inputs[0].dtype))
    case .reduce(let operation):
      let extents = operation.extents(of: inputs[0].shape)
      return try lowered(
        ReductionProblem(
          operation.kind == .sum ? .sum : .max, outer: extents.outer, reduced: extents.reduced, inner: extents.inner,
          dtype: inputs[0].dtype))
    case .matMul(let operation):
      return try lowered(gemm(operation, inputs[...]), slotInputs: 2)
    case .matMulBatchNorm(let operation):
      return try matMulBatchNorm(operation, inputs, node)
    case .matMulUpdate(let operation):
      return try matMulUpdate(operation, inputs)
    case .affineProductGradient:
      return try lowered(
        AffineProductProblem(channels: inputs[0].shape[0], columns: inputs[0].shape[1], dtype: inputs[0].dtype))
    case .gather(let operation):
      return try lowered(
        GatherProblem(
          source: inputs[0].dtype, destination: operation.dtype, rows: operation.rows,
          width: inputs[0].count / inputs[0].shape[0], dataRows: inputs[0].shape[0], positions: inputs[1].count,
          component: Cursor.sample, scale: operation.scale))
    case .record(let operation):
      var record = try lowered(
        RecordProblem(
          rows: inputs[0].shape[0], columns: inputs[0].shape[1], samples: operation.rows,
          nonFinite: operation.nonFinite, dtype: inputs[0].dtype)
      ) { placed in
        // One row of the history changes, and the cursor.
        Operands(outputs: placed.outputs, inputs: Array(placed.inputs.dropFirst(2)))
      }
      record.overwrites = operation.inPlace
      return record
    case .batchNormTraining(let operation):
      return try lowered(batchNorm(operation, inputs[0], inputs[3...]), slotInputs: 3)
    case .batchNormBackward(let operation):
      return try lowered(
        BatchNormBackwardProblem(
          ChannelExtents(inputs[1].shape, axis: operation.axis), epsilon: operation.epsilon, dtype: inputs[1].dtype,
          prologue: operation.prologue?.slot(inputs.dropFirst(6).map { $0.count == 1 ? .scalar : .full })),
        slotInputs: 6)
    case .batchNormRunningUpdate(let operation):
      return try lowered(
        BatchNormRunningProblem(
          channels: inputs[0].count, weight: operation.weight.value, varianceFactor: operation.varianceFactor,
          dtype: inputs[0].dtype, isGuarded: operation.isGuarded))
    case .softmaxCrossEntropy:
      return try softmax(.forward, logits: inputs[0], node)
    case .softmaxCrossEntropyBackward:
      return try softmax(.backward, logits: inputs[1], node)
    case .softmaxCrossEntropyWithGradient(let operation):
      return try softmax(operation.hasTopOne ? .withGradientAndTopOne : .withGradient, logits: inputs[1], node)
    case .topOne:
      return try softmax(.topOne, logits: inputs[0], node)
    case .optimizerStep(let operation):
      return try optimizerStep(operation, inputs)
    }
  }

  /// A launch that copies one buffer to another of the same type: an update that no kernel makes in place.
  func copy(_ type: TensorType) throws -> Lowered {
    try lowered(ElementwiseProblem(Expression(.copy), inputs: [type], output: type, title: "copy"))
  }

  /// - Parameter slotInputs: operands from this one on belong to the kernel's slot; nil for none.
  private func lowered<Problem: KernelProblem>(
    _ problem: Problem, slotInputs: Int? = nil, _ operands: ((PlacedNode) -> Operands)? = nil
  ) throws -> Lowered {
    let variant = try problem.variant(on: profile, forced: forced)
    return Lowered(
      workspaceBytes: variant.workspaceBytes(problem, profile), variant: "\(Problem.family).\(variant.name)",
      problem: problem
    ) { placed, context in
      let split = slotInputs ?? placed.inputs.count
      let chosen =
        operands?(placed)
        ?? Operands(
          outputs: placed.outputs, inputs: Array(placed.inputs[..<split]), extras: Array(placed.inputs[split...]),
          workspace: placed.workspace)
      return try variant.bind(problem, chosen, context)
    }
  }

  private func elementwise(_ expression: Expression, _ inputs: [TensorType], _ node: Node) throws -> Lowered {
    let title = node.operation.rules.name
    return try lowered(ElementwiseProblem(expression, inputs: inputs, output: node.types[0], title: title))
  }

  /// A parameter and its slots change where they lie.
  private func matMulUpdate(_ operation: MatMulUpdate, _ inputs: [TensorType]) throws -> Lowered {
    var problem = gemm(operation.product, inputs[..<operation.productOperands])
    problem.update = GemmProblem.Update(OptimizerProblem.Rule(operation.rule), isGuarded: operation.isGuarded)
    let (own, parameter) = (operation.productOperands, operation.parameterPosition)
    var update = try lowered(problem) { placed in
      let inputs = placed.inputs
      return Operands(
        outputs: placed.outputs,
        inputs: Array(inputs[..<2] + inputs[own..<parameter] + inputs[(parameter + operation.outputCount)...]),
        extras: Array(inputs[2..<own]), workspace: placed.workspace)
    }
    update.overwrites = operation.inPlace
    return update
  }

  /// The operands of the product's epilogue stand before the batch norm's.
  private func matMulBatchNorm(_ operation: MatMulBatchNorm, _ inputs: [TensorType], _ node: Node) throws -> Lowered {
    let own = operation.productOperands
    let problem = GemmBatchNormProblem(
      gemm(operation.product, inputs[..<own]), batchNorm(operation.batchNorm, node.types[0], inputs[(own + 2)...]))
    return try lowered(problem) { placed in
      let inputs = placed.inputs
      return Operands(
        outputs: placed.outputs, inputs: Array(inputs[..<2] + inputs[own..<own + 2]),
        extras: Array(inputs[2..<own] + inputs[(own + 2)...]), workspace: placed.workspace)
    }
  }

  /// - Parameter extras: of the operands of the epilogue.
  private func batchNorm(
    _ operation: BatchNormTraining, _ x: TensorType, _ extras: ArraySlice<TensorType>
  ) -> BatchNormForwardProblem {
    BatchNormForwardProblem(
      ChannelExtents(x.shape, axis: operation.axis), epsilon: operation.epsilon, dtype: x.dtype,
      epilogue: operation.epilogue?.slot(extras.map { $0.count == 1 ? .scalar : .full }))
  }

  /// - Parameter inputs: of the operands of the product and its epilogue.
  private func gemm(_ operation: MatMul, _ inputs: ArraySlice<TensorType>) -> GemmProblem {
    let (m, n, k) = operation.extents(inputs[0].shape, inputs[1].shape)
    let extras = inputs.dropFirst(2).map { input -> Slot.Access in
      if input.count == 1 { return .scalar }
      if input.shape == [m, n] { return .full }
      return input.shape == [m, 1] ? .row : .column
    }
    return GemmProblem(
      m: m, n: n, k: k, transposeA: operation.transposeA, transposeB: operation.transposeB, dtype: inputs[0].dtype,
      epilogue: operation.epilogue?.slot(extras))
  }

  private func softmax(_ kind: SoftmaxProblem.Kind, logits: TensorType, _ node: Node) throws -> Lowered {
    try lowered(SoftmaxProblem(kind, rows: logits.shape[0], classes: logits.shape[1], dtype: logits.dtype))
  }
}

extension BatchNormRunningUpdate.Weight {
  /// Nil for the one that follows from the count.
  fileprivate var value: Double? {
    switch self {
    case .fixed(let weight): weight
    case .cumulative: nil
    }
  }
}
