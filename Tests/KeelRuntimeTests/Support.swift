import KeelCL
import KeelCore
import KeelGraph
import KeelPrimitives
import KeelRuntime

/// One context a device, shared by the suites of this target.
@MainActor enum Devices {
  static let contexts: [ComputeContext] = {
    do {
      return try Device.all().map { try ComputeContext($0) }
    } catch {
      print("no device: \(error)")
      return []
    }
  }()
}

extension VariableStore {
  /// Variables for all inputs of a graph, with random values: the same for the same graph.
  static func filled(for graph: Graph, _ context: ComputeContext, guardBytes: Int = 0) throws -> VariableStore {
    let store = VariableStore(context, guardBytes: guardBytes)
    try store.declare(graph.inputs.map { Variable($0.input.label, $0.type, $0.input.role) })
    for (name, values) in try graph.randomInputs() { try store.write(name, values) }
    return store
  }
}

extension Graph {
  /// Normal numbers for real inputs, small integers from 0 for the others.
  func randomInputs() throws -> [String: HostTensor] {
    var values: [String: HostTensor] = [:]
    for (stream, input) in inputs.enumerated() {
      var random = Philox(seed: 5, stream: UInt64(stream))
      values[input.input.label] = try HostTensor(
        input.type,
        values: (0..<input.type.count).map { _ in
          input.type.dtype.isFloatingPoint ? random.nextNormal() : Double(random.nextIndex(below: 4))
        })
    }
    return values
  }
}

/// A training step with everything in it: gather, two layers with batch norm, residual, loss, accuracy, gradients,
/// optimizer, running statistics, history, cursor.
func trainingStep(_ dtype: DType, rule: UpdateRule = .adam(beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01))
  throws -> Graph
{
  let builder = GraphBuilder(name: "step", mode: .training, dtype: dtype)
  let cursor = builder.input("cursor", Cursor.type, role: .control)
  let order = builder.input("order", TensorType([40], .int32), role: .control)
  let data = builder.input("data", TensorType([4, 11], dtype))
  let classes = builder.input("classes", TensorType([4], .int32))
  func parameter(_ name: String, _ shape: Shape) -> Tensor {
    builder.input(name, TensorType(shape, dtype), role: .parameter)
  }
  let weights = [
    parameter("w1", [11, 9]), parameter("scale", [9]), parameter("shift", [9]), parameter("w2", [9, 9]),
    parameter("b2", [9]), parameter("w3", [9, 4]), parameter("b3", [4]),
  ]

  let x = builder.append(.gather(Gather(rows: 13, dtype: dtype, scale: 0.5)), [data, order, cursor])[0]
  let labels = builder.append(.gather(Gather(rows: 13, dtype: .int32)), [classes, order, cursor])[0]
  let normalized = builder.append(
    .batchNormTraining(BatchNormTraining(axis: 1, epsilon: 1e-5)), [x.matMul(weights[0]), weights[1], weights[2]])
  let h1 = normalized[0].elementwise(.elu, 1.0)
  let h2 = (h1.matMul(weights[3]) + weights[4]).elementwise(.relu) + h1
  let logits = h2.matMul(weights[5]) + weights[6]
  let losses = builder.append(.softmaxCrossEntropy(SoftmaxCrossEntropy()), [logits, labels])[0]
  let (loss, correct) = (losses.mean(), builder.append(.topOne(TopOne()), [logits, labels])[0].sum())

  let running = ["mean", "variance", "batches"].map {
    builder.input("running \($0)", TensorType([9], dtype), role: .runningStatistic)
  }
  let moved = builder.append(
    .batchNormRunningUpdate(BatchNormRunningUpdate(weight: .fixed(0.1), varianceFactor: 13.0 / 12)),
    running + [normalized[1], normalized[2], normalized[3]])
  for (old, new) in zip(running, moved) { builder.update(old, with: new) }

  let gradients = builder.gradients(of: loss, withRespectTo: weights)
  let slots = rule.slots.flatMap { slot in
    weights.indices.map { builder.input("\(slot) \($0)", weights[$0].type, role: .optimizerSlot) }
  }
  let rates = builder.input("rates", TensorType([4], dtype), role: .control)
  let stepped = builder.append(
    .optimizerStep(OptimizerStep(rule, count: weights.count)), [rates, cursor] + weights + gradients + slots)
  for (old, new) in zip(weights + slots, stepped) { builder.update(old, with: new) }

  let history = builder.input("history", TensorType([4, 2], dtype), role: .control)
  builder.guardUpdates(by: loss)
  let recorded = builder.append(.record(Record(rows: 13, nonFinite: .hold)), [history, cursor, loss, correct])
  builder.update(history, with: recorded[0])
  builder.update(cursor, with: recorded[1])
  builder.output("loss", loss)
  builder.output("logits", logits)
  for (index, gradient) in gradients.enumerated() { builder.output("d\(index)", gradient) }
  return try builder.graph()
}
