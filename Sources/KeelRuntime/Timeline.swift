import Foundation
import KeelCL
import KeelPrimitives

/// When each launch of some runs began and ended on the device, which ran them as it does without being watched: none
/// was waited for.
public struct Timeline: Sendable {
  /// One launch of one run.
  public struct Span: Sendable {
    /// Of the run, from 0.
    public var run: Int
    /// Of the launch within the run, from 0.
    public var launch: Int
    /// Seconds since the first launch of all began.
    public var start: Double
    /// Seconds.
    public var duration: Double
  }

  /// The launches of a run, with the means of their times.
  public let launches: [LaunchTime]
  /// In the order in which they were enqueued.
  public let spans: [Span]
  /// From the beginning of the first launch to the end of the last, over the number of runs: what a run takes, with the
  /// gaps between its launches.
  public let secondsPerRun: Double

  init(_ bound: [CompiledLaunch], _ events: [Event]) throws {
    let times = try events.map { (start: try $0.started, end: try $0.ended) }
    let origin = times.first?.start ?? 0
    // A driver's clock may step back by its resolution.
    func seconds(_ from: UInt64, _ to: UInt64) -> Double { to > from ? Double(to - from) * 1e-9 : 0 }
    spans = times.enumerated().map { index, time in
      Span(
        run: index / max(bound.count, 1), launch: index % max(bound.count, 1), start: seconds(origin, time.start),
        duration: seconds(time.start, time.end))
    }
    let runs = Double(max(events.count / max(bound.count, 1), 1))
    var sums = [Double](repeating: 0, count: bound.count)
    for span in spans { sums[span.launch] += span.duration }
    launches = zip(bound, sums).map { launch, sum in
      LaunchTime(
        label: launch.label, path: launch.path, seconds: sum / runs, flops: launch.flops, bytes: launch.bytes)
    }
    secondsPerRun = seconds(origin, times.last?.end ?? origin) / runs
  }

  /// The timeline in the Trace Event Format, which Perfetto and chrome://tracing open: a complete event a launch.
  ///
  /// Source: "Trace Event Format", the Chromium project.
  public func trace() throws -> Data {
    struct Event: Encodable {
      struct Arguments: Encodable {
        var layer: String
        var run: Int
        var flops: Double
        var bytes: Double
      }
      var name: String
      var cat = "launch"
      var ph = "X"
      /// Microseconds.
      var ts: Double
      var dur: Double
      var pid = 1
      var tid = 1
      var args: Arguments
    }
    struct Trace: Encodable {
      var traceEvents: [Event]
      var displayTimeUnit = "ns"
    }
    let events = spans.map { span in
      let launch = launches[span.launch]
      return Event(
        name: launch.label, ts: span.start * 1e6, dur: span.duration * 1e6,
        args: Event.Arguments(layer: launch.path, run: span.run, flops: launch.flops, bytes: launch.bytes))
    }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    return try encoder.encode(Trace(traceEvents: events))
  }
}

extension Executable {
  /// Runs `runs` times, one right after the other, and gives the times of all launches.
  ///
  /// - Throws: a queue that was made without profiling (``Options/profiles``), or what the device says.
  public func timeline(runs: Int) throws -> Timeline {
    guard context.queue.isProfiling else {
      throw ExecutableError(
        "[executable] \(graph.name): a timeline expects a queue that keeps times, got one that does not")
    }
    var events: [Event] = []
    for _ in 0..<max(runs, 1) {
      for launch in launches {
        if let event = try launch.enqueue(on: context.queue, event: true) { events.append(event) }
      }
    }
    try context.queue.finish()
    return try Timeline(launches, events)
  }
}
