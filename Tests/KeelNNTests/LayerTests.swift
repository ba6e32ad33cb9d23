import KeelCore
import KeelGraph
import Testing

@testable import KeelNN

@Suite struct LinearTests {
  @Test func isOneProductAndOneSum() throws {
    #expect(
      try printed(Linear(3, 2), [4, 3]) == """
        graph test {
          %0 = x{data} : f32[4, 3]
          %1 = weight{parameter} : f32[3, 2]
          %2 = matMul(%0, %1) : f32[4, 2]
          %3 = bias{parameter} : f32[2]
          %4 = add(%2, %3) : f32[4, 2]
          output y = %4
        }
        """)
  }

  @Test func hasNoBiasWhenToldSo() throws {
    let layer = Linear(3, 2, bias: false)
    #expect(Model(layer).parameters.map(\.path) == ["weight"])
    #expect(try !printed(layer, [4, 3]).contains("add"))
  }

  @Test func takesMoreAxes() throws {
    let text = try printed(Linear(3, 2, bias: false), [4, 5, 3])
    #expect(text.contains("reshape(%0) : f32[20, 3]"))
    #expect(text.contains("output y = %4"))
    #expect(text.contains("%4 = reshape(%3) : f32[4, 5, 2]"))
  }

  @Test func computesTheProduct() throws {
    let layer = Linear(2, 2)
    let model = Model(layer)
    layer.weight.value = try HostTensor([2, 2], [1.0, 2, 3, 4])
    layer.bias?.value = try HostTensor([2], [10.0, 20])
    #expect(try run(model, [1, 2], [5, 6]).outputs["y"] == [5 + 18 + 10, 10 + 24 + 20])
  }

  @Test func namesTheLayerWhoseShapeIsWrong() {
    let model = Sequential {
      Linear(16, 64)
      Linear(64, 16)
      ReLU()
      ReLU()
      Linear(32, 10)
    }
    #expect(
      traceError(model, [64, 16]) == "[linear] layers.4: expects 32 features on the last axis, got [64, 16]")
    #expect(
      traceError(Sequential { Linear(3, 2) }, [3])
        == "[linear] layers.0: expects samples [.., 3] of rank 2 or more, got [3]")
  }

  @Test func refusesImpossibleSizes() {
    #expect(traceError(Linear(0, 2), [4, 0]) == "[linear] expects positive extents, got [0, 2]")
    #expect(traceError(Linear(-1, 2), [4, 3]) == "[linear] expects positive extents, got [-1, 2]")
    #expect(
      traceError(Linear(Int.max, Int.max), [4, 3])
        == "[linear] expects at most 2147483647 elements, got [\(Int.max), \(Int.max)]")
    #expect(
      traceError(Linear(3, 2, weight: .normal(-1)), [4, 3])
        == "[linear] expects a finite standard deviation of 0 or more, got -1.0")
  }
}

@Suite struct ActivationTests {
  @Test func areOneNodeEach() throws {
    let cases: [(any Layer, String)] = [
      (ReLU(), "%1 = relu(%0) : f32[4, 3]"), (Sigmoid(), "%1 = sigmoid(%0) : f32[4, 3]"),
      (Tanh(), "%1 = tanh(%0) : f32[4, 3]"), (ELU(alpha: 0.5), "%2 = elu(%0, %1) : f32[4, 3]"),
      (Flatten(), "output y = %0"),
    ]
    for (layer, line) in cases { #expect(try printed(layer, [4, 3]).contains(line)) }
    #expect(try printed(ELU(alpha: 0.5), [4, 3]).contains("%1 = constant{0.5} : f32[]"))
  }

  @Test func flattenKeepsTheFirstAxis() throws {
    #expect(try graph(of: Flatten(), [4, 3, 5]).nodes.last?.types == [TensorType([4, 15])])
    #expect(try graph(of: Flatten(), [4]).nodes.last?.types == [TensorType([4, 1])])
    #expect(traceError(Flatten(), []) == "[flatten] expects samples [N, ..], got []")
  }

  @Test func refusesAnAlphaThatIsNotPositive() {
    #expect(
      traceError(Sequential { ELU(alpha: 0) }, [4, 3]) == "[elu] layers.0: expects alpha > 0, got 0.0")
    #expect(traceError(ELU(alpha: .nan), [4, 3]) == "[elu] expects alpha > 0, got nan")
  }
}

@Suite struct SequentialTests {
  @Test func builderTakesControlFlow() {
    func network(deep: Bool, norm: Bool) -> Sequential {
      Sequential {
        Flatten()
        for width in deep ? [8, 4, 2] : [8] {
          Linear(width, width / 2)
          if norm { BatchNorm(width / 2) }
        }
        if deep { Sigmoid() } else { Tanh() }
        [ReLU(), ReLU()] as [any Layer]
      }
    }
    func types(_ network: Sequential) -> [String] { network.layers.map { "\(type(of: $0))" } }
    #expect(types(network(deep: false, norm: false)) == ["Flatten", "Linear", "Tanh", "ReLU", "ReLU"])
    #expect(
      types(network(deep: true, norm: true)) == [
        "Flatten", "Linear", "BatchNorm", "Linear", "BatchNorm", "Linear", "BatchNorm", "Sigmoid", "ReLU", "ReLU",
      ])
  }

  @Test func emptyOneIsTheIdentity() throws {
    #expect(try printed(Sequential([]), [4, 3]).contains("output y = %0"))
  }

  @Test func pathsAreThoseOfTheModel() throws {
    struct Net: Layer {
      let body = Sequential {
        Sequential {
          Linear(3, 3)
          ReLU()
        }
        Residual(3)
      }
      func callAsFunction(_ x: Tensor) -> Tensor { body(x) }
    }
    let nodes = try graph(of: Net(), [4, 3]).nodes
    func path(_ name: String) -> [String] { nodes.filter { $0.operation.rules.name == name }.map(\.path) }
    #expect(path("matMul") == ["body.layers.0.layers.0", "body.layers.1.first", "body.layers.1.second"])
    // The residual layer's own activation and sum stand at the layer's path.
    #expect(path("relu") == ["body.layers.0.layers.1", "body.layers.1"])
    #expect(path("add").last == "body.layers.1")
  }

  @Test func outsideOfAModelPathsAreRelative() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [4, 3])
    _ = builder.scope("net") { Sequential { ReLU() }(x) }
    #expect(try builder.graph().nodes.last?.path == "net.layers.0")
  }
}

extension GraphBuilder {
  fileprivate func input(_ name: String, _ shape: Shape) -> Tensor { input(name, TensorType(shape, dtype)) }
}
