import KeelCL
import KeelCore
import KeelGraph
import KeelPrimitives
import KeelRuntime
import Testing

@Test func smoke() throws {
  let context = try ComputeContext(Device.best())
  let builder = GraphBuilder(name: "smoke", mode: .training)
  let x = builder.input("x", TensorType([7, 19]))
  let w = builder.input("w", TensorType([19, 11]), role: .parameter)
  let b = builder.input("b", TensorType([11]), role: .parameter)
  let g = builder.input("g", TensorType([11]), role: .parameter)
  let labels = builder.input("labels", TensorType([7], .int32))
  let z = x.matMul(w)
  let bn = builder.append(.batchNormTraining(BatchNormTraining(axis: 1, epsilon: 1e-5)), [z, g, b])
  let h = bn[0].elementwise(.relu)
  let loss = builder.append(.softmaxCrossEntropy(SoftmaxCrossEntropy()), [h, labels])[0].mean()
  let grads = builder.gradients(of: loss, withRespectTo: [w, b, g])
  builder.output("loss", loss)
  for (n, t) in zip(["dw", "db", "dg"], grads) { builder.output(n, t) }
  let graph = try builder.graph()
  var rng = Philox(seed: 1)
  var inputs: [String: [Double]] = [:]
  let store = VariableStore(context, guardBytes: 256)
  try store.declare(graph.inputs.map { Variable($0.input.label, $0.type, $0.input.role) })
  for (_, input, type) in graph.inputs {
    let values = type.dtype == .int32 ? (0..<type.count).map { Double($0 % 11) } : (0..<type.count).map { _ in Double(Float(rng.nextNormal())) }
    inputs[input.label] = values
    try store.write(input.label, HostTensor(type, values: values))
  }
  let reference = try Interpreter(graph).run(inputs)
  for fuses in [true, false] {
    var options = Executable.Options()
    options.fuses = fuses
    options.guardBytes = 256
    if fuses { options.dumps = ["materialize", "launches"] }
    let executable = try Executable(graph, variables: store, options: options)
    try executable.run()
    #expect(try executable.brokenGuards() == [])
    for name in ["loss", "dw", "db", "dg"] {
      let got = try executable.output(name).doubles
      let want = reference.outputs[name] ?? []
      let error = zip(got, want).map { abs($0 - $1) }.max() ?? .infinity
      print(fuses, name, got.count, error)
      #expect(error < 1e-5)
    }
  }
}
