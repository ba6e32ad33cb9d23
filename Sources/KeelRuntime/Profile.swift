import Foundation
import KeelCL
import KeelGraph
import KeelPrimitives

/// The time of one launch.
public struct LaunchTime: Sendable, CustomStringConvertible {
  public let label: String
  public let path: String
  /// On the device, in seconds, where its queue tells; else the host's time until it had finished.
  public let seconds: Double
  public let flops: Double
  public let bytes: Double

  public var description: String {
    let rate = seconds > 0 ? 1e-9 / seconds : 0
    return String(format: "%9.1f µs %8.2f GFLOP/s %7.2f GB/s  ", seconds * 1e6, flops * rate, bytes * rate)
      + label + (path.isEmpty ? "" : "  (\(path))")
  }
}

extension Executable {
  /// Runs once, waiting after each launch, and gives the times.
  public func profile() throws -> [LaunchTime] {
    try context.queue.finish()
    return try launches.map { launch in
      let start = DispatchTime.now().uptimeNanoseconds
      let event = try launch.enqueue(on: context.queue, event: true)
      try context.queue.finish()
      let host = DispatchTime.now().uptimeNanoseconds - start
      let device = context.queue.isProfiling ? try event?.duration : nil
      return LaunchTime(
        label: launch.label, path: launch.path, seconds: Double(device ?? host) * 1e-9, flops: launch.flops,
        bytes: launch.bytes)
    }
  }
}

extension CompiledLaunch {
  /// A line for a person, and one more for each launch that is in it.
  var listing: String {
    ([label + (parts.isEmpty ? "  global \(global)" : "") + (path.isEmpty ? "" : "  \(path)")]
      + parts.map { "    \($0)" }).joined(separator: "\n")
  }
}

extension MemoryPlan {
  /// A line for each value: where it lies and how large it is.
  public func report(_ graph: Graph) -> String {
    var lines: [String] = []
    for (index, node) in graph.nodes.enumerated() {
      for output in node.types.indices {
        let value = Value(node: index, output: output)
        let location = locations[value].map { "\($0)" } ?? "nowhere"
        lines.append("%\(index).\(output) \(node.types[output]) \(node.types[output].byteCount) bytes: \(location)")
      }
    }
    lines.append(
      "activations \(activationByteCount) bytes (\(unsharedByteCount) without sharing), constants \(constantByteCount)")
    return lines.joined(separator: "\n")
  }
}
